"""When the intervals of an estimate from coupled chains are to be believed, and the sentence that says why not."""

from __future__ import annotations

import math

from thermokernels.estimates.statistics.intervals import Interval

# Fewer replicates than this do not show their own spread: with 40 an interval of 95 % covered 75 % on a frustrated model.
FEWEST = 200
# Where rare events of one size make the spread, a sample with k of them gives the farthest replicate the share 1 / k, and its skewness is
# e = k**(-1/2) in the words of ``intervals``. The end of the interval that the unseen ones would move is
#     t = 3 / e ((1 - e (1.96 + e / 6))**(1/3) - 1):
# from e = 0.49 on the root is of a negative number, and the expansion has left the range that it was made for. That is k = 4.2 events: five
# have to have been seen, so that no replicate may have more than a fifth. (A smaller limit would not be safer: the samples that miss rare
# events altogether have small shares.)
LARGEST_SHARE = 0.2


def unmet(share: float, cap: int, is_cut: bool = False) -> str:
    """No estimate: the pilot's pairs do not meet; ``is_cut``: a longer budget gives them more sweeps."""
    said = f"{share:.0%} of the pairs of chains did not meet within {cap} sweeps, so that an average over the others would be too small"
    return f"{said}; the budget is too short for more, and a longer one waits longer for them" if is_cut else said


def given_up(n_lost: int, cap: int) -> str:
    """No estimate: a replicate never ended."""
    pairs = "one pair" if n_lost == 1 else f"{n_lost} pairs"
    return f"{pairs} of chains did not meet within {cap} sweeps in the replicates, so that an average over the others would be too small"


def out_of_time(budget: float, n_done: int, n_begun: int, seconds: float) -> str:
    """No estimate: replicates take far longer than the first of them did."""
    if n_done == 0:
        return f"the budget of {budget:g} s was over before any of the {n_begun} replicates that were begun was finished"
    return (
        f"the budget of {budget:g} s was over when {n_done} of {n_begun} replicates were finished, the quick ones, so that an average over "
        f"them would be too small; {FEWEST} of them take about {seconds:.2g} s"
    )


def shortfall(precision: float, reached: float, seconds: float, most: int) -> str:
    """How far an estimate is from the precision asked for, and what that takes; infinitely many seconds are ``most`` replicates."""
    far = f"the half width of its interval is {reached:.2g} of the value" if math.isfinite(reached) else "its interval has no end"
    needed = f"about {seconds:.2g} s" if math.isfinite(seconds) else f"more than {most} replicates"
    return f"{far}, and {precision:.2g} takes {needed}"


def doubt(n_replicates: int, share: float, t_obs: Interval, batch_means: Interval, batch_means_bias: float) -> str:
    """Why an estimate is not to be trusted, or ""."""
    if n_replicates < FEWEST:
        return f"{n_replicates} replicates are too few to show their own spread, {FEWEST} are wanted"
    if share > LARGEST_SHARE:
        return f"one replicate in {n_replicates} makes {share:.0%} of the variance, so that rare events dominate, and some were not seen"
    if not t_obs[0] > 0:
        return "T_O cannot be told from zero"
    if not math.isnan(batch_means[0]) and not _agree(t_obs, batch_means, batch_means_bias):
        return (
            f"batch means give {batch_means[0]:.4g} to {batch_means[1]:.4g} steps for T_O where coupled chains give "
            f"{t_obs[0]:.4g} to {t_obs[1]:.4g}"
        )
    return ""


def _agree(first: Interval, second: Interval, bias: float) -> bool:
    """Whether two independent intervals are within four standard errors of their difference, and the bias of the second, of each other."""
    middle, other = sum(first) / 2, sum(second) / 2
    error = math.hypot(first[1] - first[0], second[1] - second[0]) / 4
    return abs(middle - other) <= 4 * error + bias * abs(other)
