"""Who was answered, as 16 bytes that only the secret can make: the unit itself is never written down.

A plain hash would not do, since ids of students can be tried one after the other. What assigns units
to variants is another hash (`deployments.manifest.fraction`), so that the one cannot be joined with
the other.
"""

from kt.store.secret import Mac, Secret

PURPOSE = "unit"
SIZE = 16  # bytes
BUCKETS = 128


class Pseudonyms:
    """By the secret's newest key: a unit is another one after `kt key rotate`."""

    def __init__(self, secret: Secret) -> None:
        self.key = secret.newest.id
        self._mac = Mac(secret.newest.key(PURPOSE))

    def labelled(self, unit: str) -> bytes:
        """17 bytes: the key's id in front, by which it is known when nothing can make it again."""
        return bytes([self.key]) + self.of(unit)

    def of(self, unit: str) -> bytes:
        """16 bytes, the same for the same unit."""
        return self._mac(unit.encode("utf-8", "surrogatepass"))[:SIZE]


def unit_hash(pseudonym: bytes) -> bytes:
    """The 8 bytes by which distinct units are counted."""
    return pseudonym[:8]


def bucket(pseudonym: bytes) -> int:
    """Which of the 128 groups of units it is in, which experiments are judged by."""
    return pseudonym[8] >> 1


def every(secret: Secret, unit: str) -> dict[int, bytes]:
    """The pseudonyms that a unit has had, by the id of the key."""
    return {one.id: Pseudonyms(Secret(keys=(one,))).of(unit) for one in secret.keys}


def labelled(secret: Secret, unit: str) -> list[bytes]:
    """The same with the key's id in front."""
    return [bytes([key]) + name for key, name in every(secret, unit).items()]
