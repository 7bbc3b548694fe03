"""T_O, the asymptotic variance, the signal and Q of models with exchangeable sites, with the same certificates as on full chains.

T_O is a sum over the parts of v_i h_j (:mod:`thermokernels.model.exchangeable`), each a solve on its lumped chain in the variational form
2 b'z - z'A z, which lacks r'A^+ r <= |r|^2 / gap of it. With killing the gap is the killing; without, hitting times prove a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError, UnresolvedError
from thermokernels.common.results import Line, Result
from thermokernels.common.tolerances import UNIT
from thermokernels.model.exchangeable import ExchangeableChain, Sector
from thermokernels.quantities.exchangeable import equal_parts
from thermokernels.solvers.lumped import lumped_gap_bound, lumped_solves
from thermokernels.solvers.lumped.lumped_solves import LumpedSolution

# Called with the sector, the row, b, and the solution of A z = b, or None where z = b / killing.
Visitor = Callable[[Sector, int, Floats, LumpedSolution | None], None]


@dataclass(frozen=True, eq=False)
class ExchangeableTime:
    """T_O of an exchangeable chain and what is known of the solves behind it.

    Attributes
    ----------
    value : T_O in steps; by_class : (C, D), the part of the products of each pair of classes
    variance : sum_a Var_pi f_a
    residual : largest relative residual; iterations : the most that a solve took
    """

    chain: ExchangeableChain
    value: float
    by_class: Floats = field(repr=False)
    variance: float
    residual: float
    iterations: int
    _unsolved: float
    _rounding: float

    @property
    def asymptotic_variance(self) -> float:
        """V = 2 T_O - sum Var, in steps."""
        return 2 * self.value - self.variance

    @cached_property
    def bound(self) -> float:
        """A bound on |T_O - value| in steps: |r|^2 over the proven gap, and rounding of the law, of the entries of A and of the sums."""
        lumped = self.chain.lumped
        even = not (lumped.b.any() or lumped.c.any())  # and so are the observables
        return self._unsolved / lumped_gap_bound.gap_lower_bound(lumped, even) + self._rounding


def variance_time(chain: ExchangeableChain, rtol: float = tolerances.SOLVE, visit: Visitor | None = None) -> ExchangeableTime:
    """:func:`thermokernels.observable_variance_time` of an exchangeable chain; rows that a symmetry exchanges are solved once.

    A visitor sees every solution, and so every row is solved for it.
    """
    rtol = arguments.as_positive(rtol, "rtol", "relative residual")
    by_class, known, rows = np.zeros(chain.lumped.couplings.shape), dict[Hashable, _Row](), list[_Row]()
    for sector in chain.sectors():
        sources = sector.right_hand_sides
        for row, (source, pair) in enumerate(zip(sources, sector.pairs, strict=True)):
            name = equal_parts.key(sector, pair) if visit is None else (len(rows),)
            if name not in known:
                known[name], solution = _solved(chain, sector, source, rtol)
                if visit is not None:
                    visit(sector, row, source, solution)
            rows.append(known[name])
            by_class[pair] += known[name].time
    value = float(by_class.sum())
    if not (np.isfinite(value) and value >= np.finfo(np.float64).tiny):
        raise ConstantError(f"T_O came out as {value!r}: no observable v_i h_j varies under pi in float64; scale the couplings down")
    variance, unsolved, rounding = (sum(getattr(row, name) for row in rows) for name in ("square", "unsolved", "rounding"))
    residual, iterations = max(row.residual for row in rows), max(row.iterations for row in rows)
    return ExchangeableTime(chain, value, by_class, variance, residual, iterations, unsolved, rounding)


@dataclass(frozen=True)
class _Row:
    """What one right-hand side adds: |b|^2, b' A^+ b, |r|^2 where no killing bounds the gap, and what else the value may be off."""

    square: float
    time: float
    residual: float = 0.0
    iterations: int = 0
    unsolved: float = 0.0
    rounding: float = 0.0


def _solved(chain: ExchangeableChain, sector: Sector, source: Floats, rtol: float) -> tuple[_Row, LumpedSolution | None]:
    of_sector, square = sector.chain, float(source @ source)
    if sector.visible is not None and sector.hidden is not None:
        time = square / of_sector.killing
        return _Row(square, time, rounding=(of_sector.law_error + chain.lumped.law_error) * time), None
    if square == 0.0:
        return _Row(0.0, 0.0), None
    solution = lumped_solves.solve(of_sector, source, rtol)
    lost, rounding = float(solution.residual @ solution.residual), _rounding(sector, source, solution)
    if of_sector.killing:
        rounding += lost / of_sector.killing
    unsolved = 0.0 if of_sector.killing else lost
    return _Row(square, solution.value(source), math.sqrt(lost / square), solution.iterations, unsolved, rounding), solution


def _rounding(sector: Sector, source: Floats, solution: LumpedSolution) -> float:
    """What rounding of pi, of the entries of A and of the sums can add to one value, to first order: as on full chains."""
    chain, z = sector.chain, solution.vector
    terms = (sum(chain.shape) + 64) * 2 * UNIT
    sizes = float(np.linalg.norm(source) * np.linalg.norm(z))
    return (terms + 2 * chain.law_error) * sizes + 2 * chain.entry_error * float((chain.escape + chain.killing) @ z**2)


def data_counts(chain: ExchangeableChain, data: ArrayLike) -> Floats:
    """The law of the numbers of -1 spins in the visible classes, in the gauge, (prod (n_c + 1),).

    ``data`` is that law, flat (the first class fastest) or with an axis a class, or samples (n, n_v) of +1 and -1, whose numbers are
    counted: the law of the data is then theirs averaged over all exchanges of sites of a class.
    """
    sizes = chain.lumped.visible_sizes
    shape = tuple(n + 1 for n in sizes)
    values = arguments.as_finite(data, "data")
    if values.ndim == 2 and values.size and values.shape[1] == chain.n_visible and (np.abs(values) == 1).all():
        spins = arguments.as_samples(values, "data") * chain.visible_signs
        counts = [(spins[:, one] < 0).sum(axis=1) for one in chain.visible_classes]
        flat = np.ravel_multi_index(tuple(counts), shape, order="F")
        return np.bincount(flat, minlength=math.prod(shape)) / len(spins)
    if values.shape == shape:
        values = values.ravel(order="F")
    if values.shape != (math.prod(shape),):
        raise ValueError(
            f"data must be samples of shape (n, {chain.n_visible}) of +1 and -1, or a law on the numbers of -1 spins in the visible "
            f"classes, of shape {shape}; got shape {values.shape}"
        )
    return arguments.as_law(values, math.prod(shape), "data")


def data_gradient(chain: ExchangeableChain, law: Floats) -> Floats:
    """g of a pair of spins of each pair of classes, in the gauge, (C, D): E_pi v_i h_j - E_data v_i tanh F_j."""
    lumped = chain.lumped
    visible = lumped.magnetisations[1] / np.array(lumped.visible_sizes)[:, None]
    expected: Floats = (visible * law) @ np.tanh(lumped.fields[0]).T
    return chain.means - expected


@dataclass(frozen=True, eq=False, repr=False)
class ExchangeableQ(Result):
    """Q_struct_perp of an exchangeable chain and what it rests on; the names of :class:`thermokernels.QStruct`.

    Attributes
    ----------
    value : Q = (K / 2) signal / t_obs; q_limit : K signal / V
    signal : |g|^2 over all n_v n_h products; g : (C, D), of a pair of spins of each pair of classes, in the gauge
    t_obs, asymptotic_variance : in steps
    window_steps : K in steps; time : ExchangeableTime
    """

    _lines = (
        Line("q", "value"),
        Line("q_limit", "q_limit"),
        Line("signal", "signal"),
        Line("t_obs_steps", "t_obs", "steps", bound="t_obs_bound"),
        Line("asymptotic_variance_steps", "asymptotic_variance", "steps"),
    )
    _facts = (
        "window_steps",
        "g",
    )

    value: float
    q_limit: float
    signal: float
    g: Floats
    window_steps: float
    time: ExchangeableTime

    @property
    def t_obs(self) -> float:
        return self.time.value

    @property
    def t_obs_bound(self) -> float:
        return self.time.bound

    @property
    def asymptotic_variance(self) -> float:
        return self.time.asymptotic_variance


@default_error_state
def exchangeable_q(chain: ExchangeableChain, data: ArrayLike, window: float = 100.0, rtol: float = tolerances.SOLVE) -> ExchangeableQ:
    """Q_struct_perp and Q_limit of a model with exchangeable sites, of any size that its classes allow.

    Parameters
    ----------
    data : samples (n, n_v) of +1 and -1, or a law on the numbers of -1 spins in the visible classes
        Such a law is flat, the first class fastest, or has an axis of length n_c + 1 for every class. It is that of the gauge, s_i v_i.
        Samples are averaged over all exchanges of sites of a class.
    window : in sweeps; rtol : largest accepted relative residual

    Raises
    ------
    ValueError
        Bad arguments. NotConvergedError, UnresolvedError: the chain is too slow for float64.

    Examples
    --------
    A model of 40 spins, and data that know all visible spins to be equal.

    >>> import numpy as np
    >>> import thermokernels as tk
    >>> chain = tk.exchangeable_chain(np.full((20, 20), 0.04))
    >>> q = tk.exchangeable_q(chain, np.eye(21)[0] / 2 + np.eye(21)[20] / 2)
    >>> f"Q {q.value:.6g}, T_O {q.t_obs / chain.n_spins:.6g} sweeps"
    'Q 30.4549, T_O 221.63 sweeps'
    """
    chain = arguments.as_instance(chain, ExchangeableChain, "chain", "exchangeable_chain(W)")
    law = data_counts(chain, data)
    steps = arguments.as_positive(window, "window", "sweeps") * chain.n_spins
    return with_time(chain, law, steps, variance_time(chain, rtol))


def with_time(chain: ExchangeableChain, law: Floats, steps: float, time: ExchangeableTime) -> ExchangeableQ:
    """Q for a law of the counts and a T_O that is known."""
    g = data_gradient(chain, law)
    signal = float((chain.pair_sizes * g**2).sum())
    value = 0.5 * steps * signal / time.value
    if not math.isfinite(value):
        raise UnresolvedError(f"Q overflows float64 with T_O = {time.value:.3g} steps; use a shorter window")
    return ExchangeableQ(value, steps * signal / time.asymptotic_variance, signal, g, steps, time)
