"""T_O, |g|^2, Q and their gradients in long double: what those in float64 are held against where a proven bound is to be near the error.

A gradient is of first order in the solutions z, and a count of what rounds in them and in the tables lies a thousandfold above what
rounding does. Here the solutions take one more step of refinement, A dz = b - A z with the residual in long double, and tables, sums and
the terms of :mod:`adjoints.variance_time` are those of long double (:mod:`thermokernels.model.extended`). What is counted then is 2^11
times smaller, and the bound of a gradient in float64 is its distance from that one and the count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from adjoints.signal_to_noise import signal_cotangents
from adjoints.variance_time import _cotangents
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError
from thermokernels.model import extended
from thermokernels.model.chain import GibbsChain
from thermokernels.model.extended import LONG_UNIT, ExtendedChain, Long
from thermokernels.quantities.signal_to_noise import QStruct, data_gradients, data_gradients_error
from thermokernels.quantities.variance_time import VarianceTime
from thermokernels.solvers import gap_bounds
from thermokernels.solvers.resolvent import Solver
from thermokernels.solvers.state_reduction.reduced_resolvent import products

# All observables at once in NumPy's long doubles.
MAX_STATES = 2**9


def applies_to(chain: GibbsChain) -> bool:
    """Whether long double has more digits here, for a chain that is small enough and has an adjoint."""
    return chain.n_states <= MAX_STATES and chain.dynamics.has_adjoint and extended.applies_to(chain)


@dataclass(frozen=True, eq=False)
class Norms:
    """Of every observable, (k,) each: |r|, |z|, |b| and sum_x A_xx z_x^2."""

    residuals: Floats
    vectors: Floats
    sources: Floats
    weighted: Floats


def bilinear_error(
    norms: Norms, n_spins: int, relaxation: float, of_products: float, of_law: float, of_entries: float, of_sums: float
) -> float:
    """The error of every entry of dT_O / dW that is made of b and z with these norms (:mod:`adjoints.bounds`).

    ``relaxation`` >= 1 / gap; relative errors of products A z, of pi, of the entries of A, and of sums.
    """
    vectors, sources = norms.vectors, norms.sources
    lost = (of_sums + 2 * of_law) * sources + of_sums**2  # of b
    unsolved = norms.residuals + lost + (2 * of_entries + of_products) * vectors
    errors = unsolved * relaxation + (of_law + of_sums) * vectors
    rounding = 2 * of_entries + 2 * of_law + len(vectors) * of_sums
    bilinear = 2 * errors * sources + (2 * vectors * errors + errors**2) / n_spins + 2 * vectors * lost
    return float((bilinear + rounding * (2 * vectors * sources + vectors**2 / n_spins)).sum())


@dataclass(frozen=True, eq=False)
class ExtendedTime:
    """T_O and dT_O / dW, (n_v, n_h), in steps, with bounds on the error of the value and of every entry."""

    chain: ExtendedChain
    value: Any  # one long double
    bound: float
    gradient: Long
    gradient_bound: float


def variance_time(time: VarianceTime) -> ExtendedTime | None:
    """T_O and its gradient from the solutions of ``time``; None where these cannot be refined in float64."""
    plain = time.chain
    chain, gap = ExtendedChain(plain), gap_bounds.gap_lower_bound(plain)
    flips, root = list(chain.single_flips()), chain.root_law
    escape = sum(rates for _, rates, _ in flips)

    def apply(vectors: Long) -> Long:
        return np.asarray(escape * vectors - sum(rates * vectors[:, others] for others, _, rates in flips))

    functions = products(plain).T.astype(np.longdouble)
    sources = root * (functions - (functions @ chain.law)[:, None])
    vectors = time.solutions.astype(np.longdouble)
    try:
        rest = np.asarray(_orthogonal(sources - apply(vectors), root), dtype=np.float64)
        vectors = _orthogonal(vectors + Solver(plain, rtol=time.rtol).solve(rest).vectors, root)
    except NumericalError:
        return None
    residuals = sources - apply(vectors)

    of_visible: Long = np.zeros_like(chain.fields[0])
    of_hidden: Long = np.zeros_like(chain.fields[1])
    for i, (others, _, _) in enumerate(flips):
        overlaps = (vectors * vectors[:, others]).sum(axis=0).reshape(plain.shape)
        if i < plain.n_visible:
            of_visible[i] = overlaps.sum(axis=1)
        else:
            of_hidden[i - plain.n_visible] = overlaps.sum(axis=0)
    squares, law_weights = (vectors**2).sum(axis=0).reshape(plain.shape), (vectors * sources).sum(axis=0)
    gradient = _cotangents(chain.tables, of_visible, of_hidden, squares, law_weights).W

    norms = Norms(*(_norms(part) for part in (residuals, vectors, sources, np.sqrt(escape) * vectors)))
    of_entries, of_sums = chain.rate_error + plain.n_spins * LONG_UNIT, 2 * (plain.n_states + 8) * LONG_UNIT
    of_products = 2 * (plain.n_spins + 2) * LONG_UNIT
    of_sources = ((of_sums + chain.law_error) * norms.sources + of_sums**2) * norms.vectors
    unsolved = (norms.residuals + of_products * norms.vectors) ** 2 / gap
    return ExtendedTime(
        chain,
        np.asarray(((sources + residuals) * vectors).sum(dtype=np.longdouble))[()],
        float((unsolved + of_sources + 2 * of_entries * norms.weighted**2).sum()),
        gradient,
        bilinear_error(norms, plain.n_spins, 1 / gap, of_products, chain.law_error, of_entries, of_sums),
    )


def q_struct_gradient(q: QStruct, time: ExtendedTime, p_data: Floats) -> tuple[Long, float]:
    """dQ / dW and a bound on the error of every entry: those of T_O, |g|^2 and their gradients at their worst together.

    An entry of dg is at most 2 and right to 4 (error of pi) + 2 (error of rates) and the roundings of its sums.
    """
    chain, plain = time.chain, q.state_time.chain
    data = p_data.astype(np.longdouble)
    g, of_g = np.asarray(data_gradients(plain.model, p_data)[0]), data_gradients_error(plain.model)
    signal, sizes = (g * g).sum(), np.abs(g)
    slope = signal_cotangents(chain.tables, data / data.sum(), g).W
    signal_error = (2 * sizes * of_g + of_g**2).sum() + (g.size + 1) * LONG_UNIT * signal
    entries = 4 * chain.law_error + 2 * chain.rate_error + 2 * (plain.n_states + plain.n_spins + 16) * LONG_UNIT
    slope_error = 2 * (sizes * entries + 2 * (of_g + LONG_UNIT * sizes)).sum()

    half, value, least = 0.5 * q.window_steps, time.value, time.value - time.bound
    if not least > 0:
        return np.zeros_like(g), float("inf")
    gradient = half * (slope / value - signal * time.gradient / value**2)
    steepest, slowest = np.abs(slope).max(), np.abs(time.gradient).max()
    largest = (steepest + slope_error) / least + (signal + signal_error) * (slowest + time.gradient_bound) / least**2
    terms = steepest / value + signal * slowest / value**2
    return gradient, float(half * (largest - terms + 16 * LONG_UNIT * largest))


def _orthogonal(vectors: Long, root: Long) -> Long:
    return np.asarray(vectors - (vectors @ root)[:, None] * root)


def _norms(rows: Long) -> Floats:
    return np.asarray(np.sqrt((rows * rows).sum(axis=1)), dtype=np.float64)
