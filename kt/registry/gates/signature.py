"""What the active version can be asked, the candidate can be asked: clients need not change."""

from pydantic import BaseModel

from kt.registry.gate import Subject
from kt.registry.record import Verdict

SAFETY = False


class Settings(BaseModel, extra="forbid"):
    pass


def judge(candidate: Subject, baseline: Subject | None, settings: Settings) -> Verdict:
    if baseline is None:
        return Verdict(gate="", passed=True, sentence="the first version: nothing to keep to")
    old, new = baseline.loaded, candidate.loaded
    if old.spec.form != new.spec.form:
        return Verdict(
            gate="",
            passed=False,
            sentence=f"its requests are of the form {new.spec.form}, those of {baseline.name} {old.spec.form}",
        )
    if lost := old.form.narrower(old.signature, new.signature):
        return Verdict(gate="", passed=False, sentence=f"{lost} of {baseline.name}")
    return Verdict(gate="", passed=True, sentence=f"takes every request that {baseline.name} takes")
