"""The gradient of T_O by state reduction, from the forward solution alone.

Differences of y across an edge are those of :mod:`thermokernels.solvers.state_reduction.solution_differences`, which share no level, and
with them comes a bound eps^2 on the energy of their error. The gradient carries a bound. A path of l offsets is added up to d, l u times
the sum of their sizes, and

    |sum_e (c (y^ - y^')^2 - c (y - y')^2) g_e| <= max|g| (2 sqrt(T_O) eps' + eps'^2),   eps' = eps + |d|_c,   (Cauchy and Schwarz)

and |dlog c / dW| <= 1 + |dlog pi / dW| <= 3. In the term of the law, what y^ leaves of the equations times G|f~|
(:mod:`thermokernels.solvers.state_reduction.reduced_resolvent`).
"""

from __future__ import annotations

import math

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import UNIT
from thermokernels.compiled import wide_exponent
from thermokernels.compiled.wide_exponent import Wide
from thermokernels.model.rounding import law_error
from thermokernels.quantities.variance_time import correlations
from thermokernels.solvers.state_reduction.reduced_resolvent import ReducedTime, centre, misplaced
from thermokernels.solvers.state_reduction.solution_differences import flow_error

# |E(y, y) / T_O - 1|, both from the same elimination on different ways: more than rounding means that one of them cancelled.
AGREEMENT = 1e-7


# T_O = sum_a (2 <f~_a, y_a>_pi - E(y_a, y_a)) is stationary in y_a, E(y, y) = sum_{edges} c_xx' (y(x) - y(x'))^2, c_xx' = pi_x P(x, x').
# Every y held still, and centred, since d<f~_a, y_a> = Cov_pi(f~_a y~_a, dlog pi) for any law:
#   dT_O = sum_x 2 pi_x sum_a f~_a(x) y~_a(x) dlog pi(x)                                                                         (law)
#          - sum_{edges} w_xx' dlog c_xx',   w_xx' = c_xx' sum_a (y_a(x) - y_a(x'))^2                                          (edges)
#   c(x, x^i) = sqrt(pi_x pi_x^i) / (2 N cosh F_i) gives dlog c = (dlog pi(x) + dlog pi(x^i)) / 2 - tanh(F_i) dF_i.   (conductance)
def weights(time: ReducedTime) -> tuple[Floats, Floats]:
    """Derivatives of log T_O by log pi(x), (n_states,), and the shares w(x, x^i) / T_O of the edges, (n_states, N), each edge at both ends.

    Raises
    ------
    UnresolvedError
        The edges do not add up to T_O.
    """
    assert time.differences is not None  # gradients are those of the single-site kernel
    shares = wide_exponent.quotient(time.differences.flows, time.total).to_floats()
    agreement = abs(0.5 * shares.sum() - 1.0)
    if not agreement <= AGREEMENT:
        raise UnresolvedError(
            f"the gradient of T_O is not resolved: its edges add up to T_O to a relative {agreement:.2g} only; scale the couplings down"
        )
    _, terms = _of_law(time)
    by_state = sum(wide_exponent.quotient(terms.take((slice(None), a)), time.total).to_floats() for a in range(terms.mantissa.shape[1]))
    return 2.0 * by_state - 0.5 * shares.sum(axis=1), shares


def _of_law(time: ReducedTime) -> tuple[Wide, Wide]:
    """pi f~_a, and times y~_a, (n_states, n_couplings) each."""
    charges = wide_exponent.product(time.law.take((slice(None), None)), time.observables)
    return charges, wide_exponent.product(charges, centre(time.law, time.responses))


def gradient_error(time: ReducedTime) -> float:
    """A bound on the error of every entry of (dT_O / dW) / T_O that is made of :func:`weights`."""
    chain = time.chain
    assert time.differences is not None
    charges, terms = _of_law(time)
    # (eps + |d|)^2, relative to T_O
    energy = (math.sqrt(_share(time.differences.error, time.total)) + math.sqrt(_share(time.differences.lost, time.total))) ** 2
    summation = (chain.n_states + chain.n_spins + charges.mantissa.shape[1] + 16) * UNIT
    # |dlog pi / dW_kl| = |v_k h_l - E[v_k h_l]|, and |tanh F dF| <= 1
    steepest = 1 + float(np.abs(correlations(chain, chain.law)).max())
    from_edges = (steepest + 1) * (2 * math.sqrt(energy) + energy + flow_error(chain) + summation)
    # y^ against y; and what pi, once by itself, twice in f~ and once in the mean of y, and the sums add to the terms as they are
    sizes = wide_exponent.column_totals(wide_exponent.magnitude(charges))
    law = time.law.take((slice(None), None))
    means = wide_exponent.column_totals(wide_exponent.product(law, wide_exponent.magnitude(time.responses)))
    moved = _share(wide_exponent.total(wide_exponent.magnitude(terms)), time.total) + _share(
        wide_exponent.total(wide_exponent.product(sizes, means)), time.total
    )
    from_law = 2 * steepest * (_share(misplaced(time), time.total) + (4 * law_error(chain) + summation) * moved)
    return float(from_edges + from_law)


def _share(part: Wide, total: Wide) -> float:
    return float(wide_exponent.quotient(part, total).to_floats())
