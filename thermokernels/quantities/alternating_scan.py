"""T_O of the alternating scan, exactly: records x_t = (v_t, h_t), v_(t+1) ~ p(v | h_t), h_(t+1) ~ p(h | v_(t+1)), one a sweep.

The chain on x is not reversible, but what is asked of it is reversible on one layer. For f of both layers, with u(h) = E[f~ | h],
w(v) = E[f~ | v] and K(v, v') = sum_h p(h | v) p(v' | h),

    Cov(f(x_0), f(x_t)) = < u, E[K^(t-1) w | h] >_pi (t >= 1),     T = Var f + < R u, (I - K)^+ w >_pi,     R u = E[u | v],

a bilinear form: with z1, z2 the solutions for R u and w and r1, r2 their residuals, T = Var f + <R u, z2> + <z1, r2> is wrong by
<r1, A^+ r2>, at most |r1| |r2| / gamma. A function of v alone has T = <w, (I - K)^+ w>. The same holds with the layers exchanged (time
runs backwards), so that solves are made on the smaller one, "near"; the nonzero spectra of both agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments, memory, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ConstantError, UnresolvedError
from thermokernels.common.results import Line, Result
from thermokernels.common.tolerances import EPSILON, UNIT
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.model.rounding import coupling_error, input_error, law_error
from thermokernels.quantities.scan_layers import Layers, Sources
from thermokernels.solvers import gap_bounds
from thermokernels.solvers.layer_resolvent import LayerSolution
from thermokernels.solvers.solve import Progress, Solve

OBSERVABLES = ("products", "expected")
UNITS = ("pm1", "zero-one")


@dataclass(frozen=True, eq=False)
class Times:
    """T_a of observables, and what is known of the solves: ``values``, ``bounds`` (k,), and the solutions for left and right."""

    sources: Sources
    left: LayerSolution
    right: LayerSolution
    values: Floats
    bounds: Floats


def solved(layers: Layers, sources: Sources, rtol: float) -> Times:
    """T_a = constant + left' z2 + z1' r2, and a bound on the error of each.

    |r1| |r2| / gamma from the residuals. Rounding is of first order: entries of C'C are right to a relative h, which moves T by at most
    h |z1| C'C |z2| <= h |z1| |z2|; sources of functions below one in size to e = (errors of the root of pi, of tanh and of C, roundings of
    sums), by e (|z1| + |z2| + e / gamma); a residual to a sum's roundings of z. A variance is twice a product of two sums over both layers.
    """
    system, chain = layers.system, layers.chain
    if sources.left is sources.right:
        left = right = system.solve(sources.right, rtol)
    else:
        both, n = system.solve(np.concatenate([sources.left, sources.right]), rtol), len(sources.right)
        left, right = both.part(slice(n)), both.part(slice(n, None))
    values = sources.constant + np.einsum("an,an->a", sources.left, right.vectors) + np.einsum("an,an->a", left.vectors, right.residuals)
    z1, z2, r1, r2 = (np.linalg.norm(part, axis=1) for part in (left.vectors, right.vectors, left.residuals, right.residuals))
    sums = (sum(system.coupling.shape) + 8) * EPSILON
    gap = gap_of_records(layers)
    lost = system.every * sums
    from_residuals = (r1 + lost * z1) * (r2 + lost * z2) / gap
    of_inputs = 0.5 * (law_error(chain) + coupling_error(chain) + sums) + 8 * UNIT
    rounding = of_inputs * (z1 + z2 + of_inputs / gap) + system.every * coupling_error(chain) * z1 * z2
    rounding += sources.variance_error * sources.constant
    return Times(sources, left, right, values, from_residuals + rounding + 4 * EPSILON * np.abs(values))


def gap_of_records(layers: Layers) -> float:
    """A lower bound of the gap of K^every, 1 - (1 - gap)^every, of one state 1."""
    if layers.chain.n_states == 1:
        return 1.0
    return float(-np.expm1(layers.system.every * np.log1p(-min(gap_bounds.gap_lower_bound(layers.chain), 0.5))))


@dataclass(frozen=True, eq=False, repr=False)
class AlternatingTime(Result):
    """T_O of the alternating scan and what is known of it; times in records, one a sweep.

    Attributes
    ----------
    value : T_O; bound : a bound on its error
    variance : sum_a Var_pi f_a; asymptotic_variance : V = 2 T_O - variance
    times, variances : (n_v, n_h), sum_(t >= 0) Cov(f_ij(x_0), f_ij(x_t)) and Var f_ij, zero where there is no coupling
    visible_times, hidden_times : (n_v,), (n_h,) of the gradients of b and c, None without ``fields``
    residual : largest relative residual of the solves; iterations : largest number
    """

    _lines = (
        Line("t_obs_steps", "value", "steps", bound="bound"),
        Line("asymptotic_variance_steps", "asymptotic_variance", "steps", bound="asymptotic_variance_bound"),
        Line("variance", "variance", bound="variance_error"),
    )
    _facts = (
        "residual",
        "iterations",
        "times",
        "variances",
        "visible_times",
        "hidden_times",
    )

    layers: Layers
    parts: dict[str, Times]

    method = "cg"

    @cached_property
    def value(self) -> float:
        return float(sum(part.values.sum() for part in self.parts.values()))

    @cached_property
    def bound(self) -> float:
        """Those of the observables, and the roundings of sums over them and over kinds of them."""
        n_rows = sum(len(part.values) for part in self.parts.values())
        return float(sum(part.bounds.sum() for part in self.parts.values())) + (min(n_rows, 8 + n_rows // 8) + 3) * UNIT * self.value

    @cached_property
    def variance(self) -> float:
        return float(sum(part.sources.variances.sum() for part in self.parts.values()))

    @property
    def variance_error(self) -> float:
        """A bound on the error of ``variance``: relative errors of the variances, and the roundings of sums as in ``bound``."""
        n_rows = sum(len(part.values) for part in self.parts.values())
        errors = (part.sources.variance_error * part.sources.variances for part in self.parts.values())
        return float(sum(error.sum() for error in errors)) + (min(n_rows, 8 + n_rows // 8) + 3) * UNIT * self.variance

    @property
    def asymptotic_variance(self) -> float:
        return 2 * self.value - self.variance

    @property
    def asymptotic_variance_bound(self) -> float:
        """A bound on the error of V: twice that of T_O, that of the variances, and the roundings of the difference."""
        lost = 2 * self.bound + self.variance_error
        return lost * (1 + 4 * EPSILON) + 2 * EPSILON * (2 * self.value + self.variance)

    @property
    def times(self) -> Floats:
        return self._of_couplings(self.parts["couplings"].values)

    @property
    def variances(self) -> Floats:
        return self._of_couplings(self.parts["couplings"].sources.variances)

    @property
    def visible_times(self) -> Floats | None:
        return self.parts["visible"].values if "visible" in self.parts else None

    @property
    def hidden_times(self) -> Floats | None:
        return self.parts["hidden"].values if "hidden" in self.parts else None

    @property
    def residual(self) -> float:
        return max(solution.relative_residual for solution in self._solutions())

    @property
    def iterations(self) -> int:
        return max(solution.iterations for solution in self._solutions())

    def _solutions(self) -> Iterator[LayerSolution]:
        for part in self.parts.values():
            yield part.left
            yield part.right

    def _of_couplings(self, numbers: Floats) -> Floats:
        chain = self.layers.chain
        table = np.zeros((chain.n_visible, chain.n_hidden))
        table.ravel()[self.layers.edges] = numbers
        return np.ascontiguousarray(table.T if self.layers.transposed else table)


@default_error_state
def alternating_variance_time(
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    *,
    observables: Literal["products", "expected"] = "products",
    units: Literal["pm1", "zero-one"] = "pm1",
    fields: bool = False,
    rtol: float = tolerances.SOLVE,
    progress: Progress | None = None,
) -> AlternatingTime:
    """T_O of records of the alternating scan, one a sweep, by matrix products on its smaller layer: up to 28 spins and all observables.

    T_O = sum_a sum_(t >= 0) Cov(f_a(x_0), f_a(x_t)). The work is 2^N multiply-adds an observable and iteration (a half without fields,
    on pairs), the memory that of one matrix of 2^N numbers (a quarter on pairs).

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model; b : (n_v,), c : (n_h,) fields, None for zero
    observables : "products", f_ij = -v_i h_j, or "expected", f_ij = -v_i E[h_j | v]: what trainers average that put E[h | v] in place of h
    units : "pm1", or "zero-one" for spins in {0, 1}, f_ij = -(1 + v_i)(1 + h_j) / 4
    fields : whether the gradients of b and c count too, f_i = -v_i and f_j = -h_j (or its expectation)
    rtol : largest accepted relative residual
    progress : called as progress(done, total), in right-hand sides, after each group of them

    Raises
    ------
    ValueError
        Bad arguments.
    NotConvergedError, UnresolvedError
        The chain is too slow for float64.
    ModelTooLargeError
        The matrix that couples the layers does not fit into memory.

    Examples
    --------
    >>> import thermokernels as tk
    >>> W = [[0.9, 0.3, -0.3], [0.4, -0.8, 0.6], [-0.2, 0.7, 0.9]]
    >>> sampled, expected = (tk.alternating_variance_time(W, observables=what) for what in ("products", "expected"))
    >>> print(f"{sampled.asymptotic_variance:.2f} against {expected.asymptotic_variance:.2f}, {expected.times.shape}")
    10.41 against 4.36, (3, 3)
    """
    arguments.as_choice(observables, OBSERVABLES, "observables")
    arguments.as_choice(units, UNITS, "units")
    fields = arguments.as_flag(fields, "fields")
    solve = Solve(rtol=rtol, progress=progress)
    model = as_model(W, b, c)
    odd = fields or units == "zero-one"  # functions that change sign with the spins need x and -x apart
    full = odd or model.has_fields
    _require_memory(model, full)
    layers = Layers(model, quotient=False if full else None)
    sources, parts, done = _sources(layers, observables, units, fields), dict[str, Times](), 0
    for name, group in sources.items():
        parts[name] = solved(layers, group, solve.rtol)
        done += len(group.constant)
        if progress is not None:
            progress(done, sum(len(each.constant) for each in sources.values()))
    time = AlternatingTime(layers, parts)
    if not time.variance >= np.finfo(np.float64).tiny:
        raise ConstantError("no observable varies under pi in float64; scale the couplings down")
    if not time.bound <= tolerances.DIGITS * time.value:
        raise UnresolvedError(
            f"T_O = {time.value:.6g} records is certain to {time.bound:.2g} only: the alternating scan is too slow for float64; "
            "scale the couplings down"
        )
    return time


def _require_memory(model: Model, full: bool) -> None:
    """The matrix, and of all observables sources, solutions and residuals of both kinds, with what conjugate gradients hold beside them."""
    small, large = sorted((model.n_visible, model.n_hidden))
    pairs = not full
    rows = model.n_visible * model.n_hidden + small + large
    n_bytes = 8 * ((1 << (small + large - 2 * pairs)) + rows * (14 << (small - pairs)) + rows * (3 << (large - pairs)))
    memory.require(
        n_bytes,
        f"T_O of the alternating scan of {small + large} spins",
        "use fewer spins: each one less halves it; samples can be drawn at any size",
    )


def _sources(layers: Layers, observables: str, units: str, fields: bool) -> dict[str, Sources]:
    """The observables by the parameters that they are the gradients of, couplings that exist in C order of (near, far) spins."""

    def in_units(spins: Floats) -> Floats:
        return spins if units == "pm1" else 0.5 * (1 + spins)

    near, of_far = in_units(layers.near_spins), in_units(np.tanh(layers.near_field))  # at the near states: near spins, far ones expected
    of_near, far = in_units(np.tanh(layers.far_field)), in_units(layers.far_spins)  # at the far states
    on_near = lambda: layers.of_near(layers.on_edges(near[:, None] * of_far))  # noqa: E731
    on_far = lambda: layers.of_far(layers.on_edges(of_near[:, None] * far))  # noqa: E731
    if observables == "products":
        variances, errors = (part.ravel()[layers.edges] for part in _product_variances(layers, units))
        couplings = Sources.of_both(layers, on_near(), on_far(), variances, errors)
    else:
        couplings = Sources.of_far(layers, on_far()) if layers.transposed else Sources.of_near(layers, on_near())
    found = {"couplings": couplings}
    if fields:
        of_near_spins, of_far_spins = Sources.of_near(layers, layers.of_near(near)), Sources.of_far(layers, layers.of_far(far))
        if observables == "expected" and layers.transposed:  # E[h | v], a function of the visible spins
            of_near_spins = Sources.of_far(layers, layers.of_far(of_near))
        elif observables == "expected":
            of_far_spins = Sources.of_near(layers, layers.of_near(of_far))
        of_spins = (of_far_spins, of_near_spins) if layers.transposed else (of_near_spins, of_far_spins)
        found |= dict(zip(("visible", "hidden"), of_spins, strict=True))
    return found


def _product_variances(layers: Layers, units: str) -> tuple[Floats, Floats]:
    """Var of the products (n_near, n_far), and its relative error.

    (high - low)^2 p (1 - p) with p = Pr(high) and 1 - p from sums of positive terms, however slow the chain is, divided by what they add up
    to: where both are right to e, a variance is to 2 e |p - (1 - p)|. In a term the law as the square of its root rounds once, as do the
    factor N and the product, and each term of a sum once more.
    """
    chain, law = layers.chain, layers.near_root**2
    up = 0.5 * (1 + layers.near_spins)
    up, down = law * up, law * (1 - up)
    # rates of flips are right to a few roundings of themselves; of a large field that is rounded to float64 few digits are left
    minus, plus = chain.n_spins * chain.hidden_flips[:, :, : chain.n_states].transpose(0, 2, 1)
    high, low = (
        (up @ plus + down @ minus, up @ minus + down @ plus) if units == "pm1" else (up @ plus, up @ minus + down.sum(axis=1)[:, None])
    )
    share, rest = high / (high + low), low / (high + low)
    of_sums = law_error(chain) + input_error(chain) + (chain.n_states + 4) * UNIT
    return (4 if units == "pm1" else 1) * share * rest, 2 * of_sums * np.abs(share - rest) + 8 * UNIT


def of_model(model: Model, solve: Solve, **options: Any) -> AlternatingTime:
    """:func:`alternating_variance_time` with the keywords of the other kernels.

    Raises
    ------
    ValueError
        A method, checkpoint or executor that is made for systems on all states.
    """
    if solve.method not in ("auto", "cg"):
        raise ValueError(f"method must be 'auto' or 'cg' for the alternating kernel, which is solved on one layer; got {solve.method!r}")
    for name in ("checkpoint", "executor", "accuracy"):
        if getattr(solve, name) is not None:
            raise ValueError(f"{name} is for kernels that are solved on all states; leave it out for the alternating kernel")
    return alternating_variance_time(model, rtol=solve.rtol, progress=solve.progress, **options)
