"""T_O from a few solves, however many observables there are: random signs, with the directions that matter most taken out exactly.

T_O is the trace of the n_v n_h by n_v n_h matrix M_ab = b_a' A^+ b_b, and w'Mw = b_w' A^+ b_w is one solve for one observable f_w. For
signs e, E[e e'] = I gives E[e'Me] = tr M (Hutchinson 1989), with a variance of 2 sum_(a != b) M_ab^2: of no use where a slow mode u of gap
lambda adds c c' / lambda, c_a = <u, b_a>, a matrix of rank one that is most of M. So the trace is split along an orthonormal basis
q_1 ... q_r of some directions of observables, with R = I - sum_k q_k q_k' (Meyer, Musco, Musco and Woodruff, Hutch++, SOSA 2021):

    tr M = tr(QQ'M) + tr(R M R) = sum_k q_k' M q_k + E[(R e)' M (R e)].                                                         (split)

The identity holds for *any* Q that does not depend on e, since R R = R and tr(R M) = tr(R M R): a poor basis costs variance and
nothing else. A good one spans the c of the slow modes, for then <u, sum_a (R e)_a b_a> = c'R e = 0: probes do not see the mode at all,
and its share |c|^2 / lambda is exact. M itself finds them: its range is swept by M s for a few random sign vectors s, from loose solves.

With Q held fixed both sides are functions of the couplings, so that the derivative of each term is an unbiased estimate of that of T_O.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments, footprint, memory, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.results import Line, Result
from thermokernels.model.chain import GibbsChain
from thermokernels.model.model import ModelLike, as_model
from thermokernels.quantities.signal_to_noise import chain_signal
from thermokernels.quantities.variance_time import correlations, error_terms, model_chain, relaxation_bounds
from thermokernels.solvers import gap_bounds
from thermokernels.solvers.checkpoint import PathLike, RestartFile
from thermokernels.solvers.many_observables import Accumulator, Observables, RowSums
from thermokernels.solvers.observable_tasks import accumulate
from thermokernels.solvers.resolvent import Solver
from thermokernels.solvers.solve import Progress, Solve

Seed = int | np.random.SeedSequence

# Directions need no digits: they cost variance only.
SKETCH = 1e-2

# Taken out exactly where nothing else is asked for.
DIRECTIONS = 4


@dataclass(frozen=True, eq=False, repr=False)
class ProbedTime(Result):
    """An estimate of T_O.

    Attributes
    ----------
    value : unbiased estimate of T_O in steps; standard_error : of it, in steps, from the spread of the probes
    exact : the part of ``value`` along the directions taken out, in steps
    samples : (n_probes,) one estimate of the rest per probe, in steps
    directions : (n_directions, n_v, n_h), orthonormal
    residual : largest relative residual of the solves; iterations : largest number of CG iterations; method : "cholesky" or "cg"
    """

    _lines = (
        Line("t_obs_steps", "value", "steps", standard_error="standard_error"),
        Line("exact_steps", "exact", "steps"),
    )
    _facts = (
        "residual",
        "iterations",
        "method",
        "samples",
    )

    chain: GibbsChain
    value: float
    standard_error: float
    exact: float
    samples: Floats
    directions: Floats
    residual: float
    iterations: int
    method: str
    row_sums: RowSums

    @cached_property
    @default_error_state
    def bound(self) -> float:
        """A bound on what the solves add to the error of ``value``, in steps, beside what chance leaves: see :class:`VarianceTime`."""
        return self.error_bound(1 / gap_bounds.gap_lower_bound(self.chain))

    @default_error_state
    def error_bound(self, relaxation: float) -> float:
        """The same in steps, with ``relaxation`` >= 1 / gap in steps."""
        terms = sum(error_terms(self.chain, self.row_sums, relaxation))
        return float(row_weights(len(self.directions), self.samples.size) @ terms)


@dataclass(frozen=True, eq=False, repr=False)
class ProbedQ(Result):
    """An estimate of Q = (K / 2) |g|^2 / T_O.

    Attributes
    ----------
    value : Q with the estimated T_O (its bias is of second order in the relative standard error); standard_error : by the delta method
    signal : |g|^2, exact; g : (n_v, n_h)
    window_steps : K in steps; time : the estimate of T_O
    """

    _lines = (
        Line("q", "value", standard_error="standard_error"),
        Line("signal", "signal"),
        Line("t_obs_steps", "time.value", "steps", standard_error="time.standard_error"),
    )
    _facts = (
        "window_steps",
        "g",
    )

    value: float
    standard_error: float
    signal: float
    g: Floats
    window_steps: float
    time: ProbedTime


def row_weights(n_directions: int, n_probes: int) -> Floats:
    """What each row counts for in the estimate: directions once, probes as a mean."""
    return np.concatenate([np.ones(n_directions), np.full(n_probes, 1 / n_probes)])


def standard_error(samples: Floats) -> Floats:
    """Of the mean of samples (n, ...): s / sqrt(n), whose square is unbiased."""
    error: Floats = np.std(samples, axis=0, ddof=1) / np.sqrt(len(samples))
    return error


@default_error_state
def probe_variance_time(
    chain: GibbsChain,
    n_probes: int = 8,
    *,
    seed: Seed,
    n_directions: int = DIRECTIONS,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
) -> ProbedTime:
    """An unbiased estimate of T_O (see :func:`thermokernels.observable_variance_time`) from n_probes + 2 n_directions solves.

    T_O = sum_k q_k' M q_k + E[(R e)' M (R e)] with M_ab = <f~_a, (I - P)^+ f~_b>_pi, e random signs of the observables and R the projection
    off the directions q_k, which are chosen such that the slow modes have next to no part in the rest: their share is exact.

    Parameters
    ----------
    chain : GibbsChain
        With a reversible kernel.
    n_probes : number of random sign vectors, at least 2
    seed : int or numpy.random.SeedSequence
    n_directions : how many directions of observables are taken out exactly; 0 is the plain estimate
    method : "auto", "cholesky" or "cg"; rtol : largest accepted relative residual
    progress, checkpoint, executor : as in :func:`thermokernels.observable_variance_time`; the loose solves that find the directions stay
        in this process

    Raises
    ------
    ValueError
        Bad arguments, or a checkpoint of another computation.
    NotReversibleError, NotConvergedError
        As :func:`thermokernels.observable_variance_time`.
    UnresolvedError
        Nothing varies under pi in float64, or the solves leave T_O fewer than ten digits.
    ModelTooLargeError
        One solve does not fit into memory; the message says what it would take.

    Examples
    --------
    >>> import thermokernels as tk
    >>> estimate = tk.probe_variance_time(tk.gibbs_chain([[0.4, 0.1], [-0.2, 0.3]]), seed=1, n_directions=1)
    >>> abs(estimate.value - 8.5) < 4 * estimate.standard_error + 0.1
    True
    """
    return probed(chain, n_probes, seed, n_directions, Solve(method, rtol, progress, checkpoint, executor))


def probed(
    chain: GibbsChain,
    n_probes: int,
    seed: Seed,
    n_directions: int,
    solve: Solve,
    accumulators: tuple[Accumulator, ...] = (),
) -> ProbedTime:
    """:func:`probe_variance_time` with accumulators that see the directions and then the probes."""
    n_probes, n_directions = arguments.as_count(n_probes, "n_probes", 2), arguments.as_count(n_directions, "n_directions", 0)
    sequence = arguments.as_seed(seed)
    n_observables = chain.model.n_couplings
    n_directions = min(n_directions, n_observables)
    solver = Solver(chain, solve.method, solve.rtol)
    footprint.require_solves(chain.n_visible, chain.n_hidden, not chain.quotient, chain.dynamics.single_flips, bool(accumulators))
    memory.require(32 * n_probes * n_observables, f"the signs of {n_observables} observables in {n_probes} probes", "use fewer probes")
    sums = sorted(name for accumulator in accumulators for name in accumulator.arrays)
    saved = None
    if solve.checkpoint is not None:
        numbers = {"n_probes": n_probes, "n_directions": n_directions, "seed": sequence.generate_state(8), "sums": " ".join(sums)}
        saved = RestartFile(solve.checkpoint, solver.inputs | numbers)
    means = correlations(chain, chain.law)

    basis = _Basis(n_directions, n_observables)
    if saved is not None:
        basis.restore(saved.load())
    if not basis.found:
        basis.find(solver, means, _signs(sequence, 0, n_directions, n_observables))
    directions = basis.arrays["directions"]
    signs = _signs(sequence, 1, n_probes, n_observables)
    rest = signs - (signs @ directions.T) @ directions
    coefficients = _on_couplings(np.concatenate([directions, rest]), chain)
    row_sums = accumulate(solver, Observables.combined(chain, means, coefficients), solve, accumulators, saved, basis.arrays)
    values = row_sums.values
    exact, samples = float(values[:n_directions].sum()), values[n_directions:]
    value = exact + float(samples.mean())
    if not (np.isfinite(value) and value >= np.finfo(np.float64).tiny):
        raise UnresolvedError(f"T_O came out as {value!r}: no observable v_i h_j varies under pi in float64; scale the couplings down")
    time = ProbedTime(
        chain=chain,
        value=value,
        standard_error=float(standard_error(samples)),
        exact=exact,
        samples=samples,
        directions=coefficients[:n_directions],
        residual=row_sums.residual,
        iterations=row_sums.iterations,
        method=solver.method,
        row_sums=row_sums,
    )
    bounds = relaxation_bounds(chain) if chain.dynamics.single_flips else ()
    if bounds and not any(time.error_bound(relaxation) <= tolerances.DIGITS * value for relaxation in bounds):
        raise UnresolvedError(
            f"the spectral gap leaves T_O = {value:.3g} steps less than {-math.log10(tolerances.DIGITS):.0f} digits beside what chance "
            "leaves: use observable_variance_time on a smaller model, or scale the couplings down"
        )
    return time


class _Basis:
    """The directions that are taken out, kept in the checkpoint along with the sums."""

    def __init__(self, n_directions: int, n_observables: int) -> None:
        self.arrays = {"directions": np.zeros((n_directions, n_observables))}

    @property
    def found(self) -> bool:
        return bool(self.arrays["directions"].any())

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        if "directions" in arrays:
            self.arrays["directions"][...] = arrays["directions"]

    def find(self, solver: Solver, means: Floats, signs: Floats) -> None:
        """An orthonormal basis of the span of M s: one sweep of the power method, s the rows of ``signs``."""
        chain, swept = solver.chain, np.empty_like(signs)
        loose = solver.relaxed(max(SKETCH, solver.rtol))
        for row, sign in enumerate(signs):  # one at a time: no more memory than the probes themselves
            observable = Observables.combined(chain, means, _on_couplings(sign[None], chain))
            (vector,) = loose.solve(observable.right_hand_sides(slice(None))).vectors
            swept[row] = -correlations(chain, chain.root_law * vector).ravel()[chain.model.edges]  # b_a' z, as z is orthogonal to sqrt(pi)
        self.arrays["directions"][...] = np.linalg.qr(swept.T)[0].T


def _on_couplings(rows: Floats, chain: GibbsChain) -> Floats:
    """Rows over the couplings that exist (k, n_couplings) as coefficients (k, n_v, n_h)."""
    coefficients = np.zeros((len(rows), chain.weights.size))
    coefficients[:, chain.model.edges] = rows
    return coefficients.reshape(-1, *chain.weights.shape)


def _signs(sequence: np.random.SeedSequence, stream: int, n_rows: int, n_columns: int) -> Floats:
    """Random signs (n_rows, n_columns) of one stream (0 directions, 1 probes); a sequence that is handed in again gives them again."""
    child = np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, stream), pool_size=sequence.pool_size)
    draws = np.random.Generator(np.random.PCG64(child)).integers(0, 2, size=(n_rows, n_columns))
    signs: Floats = np.where(draws == 1, 1.0, -1.0)
    return signs


@default_error_state
def probe_q_struct(
    W: ModelLike,
    p_data: ArrayLike,
    window: float = 100.0,
    n_probes: int = 8,
    *,
    seed: Seed,
    n_directions: int = DIRECTIONS,
    method: str = "auto",
    rtol: float = tolerances.SOLVE,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
    executor: Executor | None = None,
) -> ProbedQ:
    """Q = (K / 2) |g|^2 / T_O with an estimated T_O; |g|^2 is exact.

    Parameters and errors are those of :func:`thermokernels.q_struct` (window in sweeps) and :func:`probe_variance_time`.

    Examples
    --------
    >>> import thermokernels as tk
    >>> W, p_data = [[0.5], [0.2]], [0.5, 0.2, 0.1, 0.2]
    >>> q = tk.probe_q_struct(W, p_data, seed=1)  # two observables and as many directions: nothing is left to chance
    >>> abs(q.value / tk.q_struct(W, p_data).value - 1) < 1e-12, q.standard_error < 1e-12
    (True, True)
    """
    chain = model_chain(as_model(W, b, c))
    g, signal, window_steps = chain_signal(chain, p_data, window)
    time = probed(chain, n_probes, seed, n_directions, Solve(method, rtol, progress, checkpoint, executor))
    return probed_q(time, g, signal, window_steps)


def probed_q(time: ProbedTime, g: Floats, signal: float, window_steps: float) -> ProbedQ:
    """Q from an estimate of T_O; dQ / Q = -dT / T gives its standard error."""
    value = 0.5 * window_steps * signal / time.value
    if not np.isfinite(value):
        raise UnresolvedError(f"Q overflows float64 with T_O = {time.value:.3g} steps; use a shorter window")
    return ProbedQ(value, value * time.standard_error / time.value, signal, g, window_steps, time)
