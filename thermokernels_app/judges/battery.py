"""The battery of P3: what must hold of one chain before any number computed from it is believed (verify or halt).

The judge rebuilds law and kernel from couplings and fields with code of its own (plain flips on plain arrays), checks reversibility,
stationarity and the three symmetries on what it built, and holds what the chain under test says (``apply``, ``law``, ``spins``,
conductances) against it. Solver residuals, hitting-time residuals, gap and conductances come from the computation and are gated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels_app.judges.records import entry

if TYPE_CHECKING:
    from thermokernels.model.chain import GibbsChain


# The preregistered gates; "agreement" is ours: judge and kernel differ by the rounding of energies of size up to about 1e3.
THRESHOLDS: dict[str, float] = {
    "reversibility": 1e-10,
    "row_sum": 1e-12,
    "stationarity": 1e-12,
    "symmetry": 1e-10,
    "agreement": 1e-12,
    "solve": 1e-10,
    "hitting": 1e-8,
    "cheeger": 1e-10,
}

N_PROBES = 3


@dataclass(frozen=True)
class Check:
    """One check: ``observed operator threshold``; an observed value that is not finite never meets it."""

    name: str
    operator: str
    threshold: float
    observed: float

    @property
    def met(self) -> bool:
        if not math.isfinite(self.observed):
            return False
        return self.observed <= self.threshold if self.operator == "<=" else self.observed >= self.threshold

    def __str__(self) -> str:
        return f"{self.name} is {self.observed:.3g} and must be {self.operator} {self.threshold:.3g}"


@dataclass(frozen=True)
class Battery:
    """All checks of one chain. ``first_failure`` is what to halt on, None where everything is met; ``record`` is plain JSON."""

    checks: tuple[Check, ...]
    record: dict[str, Any]

    @property
    def first_failure(self) -> Check | None:
        return next((check for check in self.checks if not check.met), None)


@dataclass(frozen=True)
class _Rebuilt:
    """The judge's own chain on the represented states, with the symmetry residuals of the full one."""

    law: Floats
    apply: Callable[[Floats], Floats]
    flows: Callable[[NDArray[np.bool_]], Floats]  # stationary flow out of each of the sets (k, n)
    reversibility: float
    stationarity: float
    symmetries: dict[str, float]


def examine(
    chain: GibbsChain,
    *,
    solver_residual: float,
    gap: float = math.nan,
    conductances: Sequence[float] = (),
    cuts: NDArray[np.bool_] | None = None,
    hitting_residuals: Sequence[float] = (),
    thresholds: Mapping[str, float] | None = None,
) -> Battery:
    """Run the battery on one chain.

    Parameters
    ----------
    chain : GibbsChain
        The chain under test; a few milliseconds at N = 12 for the single-site kernel. The block kernels are checked as dense matrices.
    solver_residual : float
        Largest relative residual of the resolvent solves.
    gap : float
        Spectral gap of the chain per step; needed where there are conductances.
    conductances : (k,) floats
        Conductance of every cut; gap <= 2 * conductance is Cheeger's bound (Lawler and Sokal 1988).
    cuts : (k, n_states) bool, optional
        The cuts themselves: their conductances are then computed again and compared.
    hitting_residuals : floats
        One M-matrix certificate a hitting-time solve: the largest |(I - P) t - 1| off the target, NaN where t < 1 or not finite.
    thresholds : mapping
        Gates that differ from ``THRESHOLDS``.
    """
    gates = {**THRESHOLDS, **{key: value for key, value in (thresholds or {}).items() if key in THRESHOLDS}}
    rebuilt = _rebuild(chain)
    functions, ones = _test_functions(chain.n_states), np.ones(chain.n_states)
    image = np.asarray(chain.apply(functions))
    agreement = max(_largest(chain.law - rebuilt.law), _largest(image - rebuilt.apply(functions)), _spin_mismatch(chain))
    if cuts is not None and len(cuts):
        mass = np.array([rebuilt.law[cut].sum() for cut in cuts])
        own = rebuilt.flows(np.asarray(cuts, dtype=bool)) / np.minimum(mass, 1.0 - mass)
        agreement = max(agreement, _largest(own - np.asarray(conductances)))
    # Of the chain's own kernel only P F is at hand: |<pi, P F - F>| <= |pi P - pi|_1 for the functions F of size one.
    stationarity = max(rebuilt.stationarity, _largest(chain.law @ image - chain.law @ functions))
    symmetries = rebuilt.symmetries
    margin = 2.0 * _least(conductances) - gap if len(conductances) else None
    hitting = _largest(np.asarray(hitting_residuals)) if len(hitting_residuals) else None

    checks = [
        Check("reversibility", "<=", gates["reversibility"], rebuilt.reversibility),
        Check("row_sum", "<=", gates["row_sum"], _largest(np.asarray(chain.apply(ones)) - 1.0)),
        Check("stationarity", "<=", gates["stationarity"], stationarity),
        Check("agreement", "<=", gates["agreement"], agreement),
        Check("solver_residual", "<=", gates["solve"], float(solver_residual)),
    ]
    if chain.quotient:  # on the full chain nothing rests on the symmetries; they are recorded only
        checks[3:3] = [Check(name, "<=", gates["symmetry"], value) for name, value in symmetries.items()]
    if hitting is not None:
        checks.append(Check("hitting_residual", "<=", gates["hitting"], hitting))
    if margin is not None:
        checks.append(Check("cheeger_margin", ">=", -gates["cheeger"], margin))

    values = {check.name: check.observed for check in checks} | symmetries
    names = ("reversibility", "row_sum", "stationarity", *symmetries, "agreement", "solver_residual")
    record: dict[str, Any] = {}
    for name in names:
        record |= entry(name, values[name])
    record |= {"fallback": chain.fallback, "hitting_solves": len(hitting_residuals), "cuts": len(conductances)}
    record |= entry("hitting_residual", hitting, "no hitting time was needed") | entry("cheeger_margin", margin, "no cuts")
    return Battery(tuple(checks), record)


def hitting_certificate(chain: GibbsChain, times: Floats, target: NDArray[np.bool_]) -> float:
    """The M-matrix certificate of hitting times by the judge's own kernel: max |(I - P) t - 1| off the target.

    What rounding t to doubles can account for is taken off. NaN, which meets no gate, where t is not finite, not zero on the
    target or below one step off it.
    """
    if not np.isfinite(times).all() or times[target].any() or (times[~target] < 1.0 - THRESHOLDS["hitting"]).any():
        return math.nan
    rounding = 8 * float(np.finfo(np.float64).eps) * float(times.max())
    return max(0.0, _largest((times - _rebuild(chain).apply(times[:, None])[:, 0] - 1.0)[~target]) - rounding)


def _largest(values: Any) -> float:
    """Largest absolute value, 0 for none; NaN where any is NaN."""
    values = np.abs(np.asarray(values, dtype=np.float64))
    return float(values.max()) if values.size else 0.0


def _least(values: Sequence[float]) -> float:
    return float(np.min(np.asarray(values, dtype=np.float64)))


@lru_cache(maxsize=8)
def _spins(n_spins: int) -> NDArray[np.int8]:
    bits = (np.arange(2**n_spins)[:, None] >> np.arange(n_spins)) & 1
    return np.where(bits, -1, 1).astype(np.int8)


@lru_cache(maxsize=8)
def _neighbours(n_spins: int, quotient: bool) -> NDArray[np.intp]:
    """State after a flip, (n_states, N): flip the bit; on the quotient the pair is named by its member whose last spin is +1."""
    states = np.arange(2 ** (n_spins - quotient))[:, None]
    flipped = states ^ (1 << np.arange(n_spins))
    neighbours: NDArray[np.intp] = np.where(flipped < len(states), flipped, 2**n_spins - 1 - flipped)
    return neighbours


@lru_cache(maxsize=8)
def _test_functions(n_states: int) -> Floats:
    signs = np.random.Generator(np.random.PCG64(n_states)).integers(0, 2, (n_states, N_PROBES))
    return np.where(signs == 1, -1.0, 1.0)


@lru_cache(maxsize=8)
def _observable_asymmetry(n_visible: int, n_hidden: int) -> float:
    """Sym-f: max |f_ij(x) - f_ij(-x)| over all states; it does not depend on the couplings."""
    table = _spins(n_visible + n_hidden)
    f = -table[:, :n_visible, None] * table[:, None, n_visible:]
    return _largest(f - f[::-1])  # -x is the complement of x, so the list of states reads backwards


def _spin_mismatch(chain: GibbsChain) -> float:
    return _largest(chain.spins() - _spins(chain.n_spins)[: chain.n_states])


def _rebuild(chain: GibbsChain) -> _Rebuilt:
    """Once a chain: the battery and every certificate of hitting times ask for it."""
    if chain not in _known:
        _known[chain] = _build(chain)
    return _known[chain]


_known: WeakKeyDictionary[GibbsChain, _Rebuilt] = WeakKeyDictionary()


def _build(chain: GibbsChain) -> _Rebuilt:
    n_visible, n_hidden = chain.weights.shape
    table = _spins(n_visible + n_hidden).astype(np.float64)
    v, h = table[:, :n_visible], table[:, n_visible:]
    on_visible = h @ chain.weights.T + chain.b
    on_hidden = v @ chain.weights + chain.c
    energy = -(v * on_visible).sum(axis=1) - h @ chain.c
    boltzmann = np.exp(energy.min() - energy)
    full_law = boltzmann / boltzmann.sum()
    with np.errstate(over="ignore"):  # a flip that never happens
        flip = 1.0 / (1.0 + np.exp(2.0 * table * np.hstack([on_visible, on_hidden])))  # P(spin i of x changes when it is resampled)
    symmetries = {
        "symmetry_law": _largest(full_law - full_law[::-1]),
        "symmetry_kernel": _largest(flip - flip[::-1]),
        "symmetry_observables": _observable_asymmetry(n_visible, n_hidden),
    }
    n_states = 2 ** (chain.n_spins - chain.quotient)
    law = full_law[:n_states] * (2.0 if chain.quotient else 1.0)
    build = _single_site if chain.dynamics.single_flips else _blocks
    apply, flows, reversibility, stationarity = build(chain, law, flip)
    return _Rebuilt(law, apply, flows, reversibility, stationarity, symmetries)


_Parts = tuple[Callable[[Floats], Floats], Callable[[NDArray[np.bool_]], Floats], float, float]


def _single_site(chain: GibbsChain, law: Floats, flip: Floats) -> _Parts:
    neighbours = _neighbours(chain.n_spins, chain.quotient)
    rates = flip[: len(law)] / chain.n_spins
    flux = law[:, None] * rates  # pi_x P(x, x^i)
    reverse = np.take_along_axis(flux, neighbours, axis=0)  # pi_y P(y, x) for y = x^i

    def apply(functions: Floats) -> Floats:
        image: Floats = functions + np.einsum("xi,xik->xk", rates, functions[neighbours] - functions[:, None, :])
        return image

    def flows(cuts: NDArray[np.bool_]) -> Floats:
        return np.array([flux[cut][~cut[neighbours[cut]]].sum() for cut in cuts])

    return apply, flows, _largest(flux - reverse), _largest((reverse - flux).sum(axis=1))


def _blocks(chain: GibbsChain, law: Floats, flip: Floats) -> _Parts:
    """The block kernels as dense matrices: Pi_v(x, y) = [h_x = h_y] p(v_y | h_x), Pi_h likewise."""
    table, n_visible, states = _spins(chain.n_spins), chain.n_visible, np.arange(2**chain.n_spins)
    plus = np.where(table > 0, 1.0 - flip, flip)  # P(spin i becomes +1), which its own value does not enter
    visible, hidden = states & (2**n_visible - 1), states >> n_visible

    def conditional(columns: slice, same: NDArray[np.intp]) -> Floats:
        matrix: Floats = (same[:, None] == same).astype(np.float64)
        for column in range(*columns.indices(chain.n_spins)):
            matrix *= np.where(table[:, column] > 0, plus[:, column, None], 1.0 - plus[:, column, None])
        return matrix

    pi_v, pi_h = conditional(slice(0, n_visible), hidden), conditional(slice(n_visible, None), visible)
    p = {
        "alternating": lambda: pi_v @ pi_h,
        "random-blocks": lambda: 0.5 * (pi_v + pi_h),
        "random-order": lambda: 0.5 * (pi_v @ pi_h + pi_h @ pi_v),
    }[chain.dynamics.scan]()
    n_states = len(law)
    if chain.quotient:
        p = p[:n_states, :n_states] + p[:n_states, : n_states - 1 : -1]
    flux = law[:, None] * p

    def flows(cuts: NDArray[np.bool_]) -> Floats:
        return np.array([flux[np.ix_(cut, ~cut)].sum() for cut in cuts])

    return p.__matmul__, flows, _largest(flux - flux.T), _largest(law @ p - law)
