"""Whether the treatment fails more often than its share of the traffic explains. Exact at any n.

Were the arms equal, each bad answer would be the treatment's with probability s, its share. Against that

    θ ~ Beta(k s, k (1 - s)), cut to θ > s:        e = P(counts | θ) / P(counts | s)

which whoever looks after every single answer finds above 1/α in α of all equal pairs at most. Lindon and
Malek 2022 (arXiv 2011.03567), with the side that does harm alone.
"""

import math

from kt.stats.special import log_beta, log_beta_above

K = 10.0  # the prior's weight, in bad answers


def log_e(control: float, treatment: float, share: float, k: float = K) -> float:
    """Of so many bad answers in each. share: of the answers that the treatment was to give, in (0, 1).

    It is broken from ln(1 / alpha) on. Units that come back are counted once each.
    """
    if not control + treatment or not 0 < share < 1:
        return 0.0
    prior = k * share, k * (1 - share)
    posterior = prior[0] + treatment, prior[1] + control
    null = treatment * math.log(share) + control * math.log1p(-share)
    mixed = log_beta(*posterior) - log_beta(*prior)
    cut = log_beta_above(share, *posterior) - log_beta_above(share, *prior)
    return mixed - null + cut
