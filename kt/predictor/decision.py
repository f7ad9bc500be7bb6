"""What to do with an answer, by how confident the model is: accept it, review it, or escalate. Pure."""

from typing import Literal

Verdict = Literal["accept", "review", "escalate"]


def decide(confidence: float, accept: float, review: float) -> Verdict:
    """All three in [0, 1]. A threshold itself belongs to the better side."""
    if confidence >= accept:
        return "accept"
    return "review" if confidence >= review else "escalate"
