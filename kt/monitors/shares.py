"""Which share a treatment gets where kt.toml lets shares follow who is probably better. Pure.

    share = floor + (1 - 2 floor) P(the treatment is better)

Thompson's rule, with the probability from the report's effect and its error: within phases and by units,
where a Beta posterior of all counts would take a ramp for an effect and a unit's outcomes for many units'.
"""

from datetime import datetime, timedelta
from statistics import NormalDist

from kt.monitors.verdict import SMALLER_IS_BETTER, Report
from kt.stats import bandit

STEP = 1.0  # percent; less is not worth a phase


def due(report: Report, share: float, since: datetime, now: datetime) -> float | None:
    """The treatment's next share in percent; None where it stays. share: what it has, since then."""
    found, settings = report.effect, report.settings
    fit = found is not None and not report.lacks and report.state == "collecting"
    if (
        found is None
        or not fit
        or report.broken
        or now - since < timedelta(hours=settings.reweight)
    ):
        return None
    p = chance(report)
    wanted = round(100 * bandit.allocation([1 - p, p])[1])
    return None if abs(wanted - share) < STEP else float(wanted)


def chance(report: Report) -> float:
    """That the treatment is the better one."""
    found = report.effect
    if found is None:
        return 0.5
    sign = -1 if report.settings.metric in SMALLER_IS_BETTER else 1
    return NormalDist().cdf(sign * found.difference / found.error)
