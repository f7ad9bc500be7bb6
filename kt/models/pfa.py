"""PFA, performance factors analysis: how often an item was answered well before, and how often not.

Pavlik, Cen and Koedinger, "Performance Factors Analysis", AIED 2009, with an item for its skill, since
answers name no skills here:

    logit p = c_q + γ_q φ(won_q) + ρ_q φ(lost_q)          φ(n) = log(1 + n)

won_q and lost_q count the student's own answers to q. The paper takes them as they are; their logs,
after Gervet et al., JEDM 2020, reach 0.699 of AUC on assist2015 in place of 0.684.
"""

from typing import Any

from kt.models import tracing
from kt.models.logistic import Config, fit
from kt.models.logistic import Counting as Model

FORM = tracing
TASK = "kt.models.answers"
METRIC = "auc"
signature = tracing.numbered
SIZES: dict[str, dict[str, Any]] = {}

__all__ = ["FORM", "METRIC", "SIZES", "Config", "Model", "fit", "signature"]
