"""The spectral gap with a proven bound of its error.

Above: Rayleigh. A unit vector x orthogonal to psi = sqrt(pi) has gap <= rho = x' A x, A = I - S. Below, with r = A x - rho x, in turn:

    Temple: gap >= rho - |r|^2 / (nu - rho) if the next eigenvalue is at least nu > rho (Proc. R. Soc. A 119 (1928) 276; Kato, J. Phys.
        Soc. Jpn. 4 (1949) 334). nu comes from all eigenvalues (small chains), from the layers (:mod:`thermokernels.solvers.layer_bounds`),
        or is the least eigenvalue off two states (interlacing), bounded by Collatz and Wielandt (:mod:`thermokernels.solvers.gap_bounds`).
    Lehmann, where up to eleven modes are about as slow and the next one is separated (:mod:`thermokernels.solvers.slow_cluster`).
    Inertia, where none is: gap > mu if A - mu has one negative eigenvalue only, that of psi. So it is if its Schur
        complement on one parity class (Haynsworth, Linear Algebra Appl. 1 (1968) 73), plus any positive matrix of rank one, has a
        Cholesky factor in float64 that survives a shift by its own rounding error (Rump, BIT 46 (2006) 433, theorem 2.3).
    The lower bound alone (:func:`thermokernels.solvers.gap_bounds.gap_lower_bound`) for larger chains.

Rounding of A moves no eigenvalue by more than 2 h, h = ``chain.entry_error``, for |diag A| and |A - diag A| are at most 1 in norm. Of up to
128 states rho is the quotient of two sums of positive terms in long double (:mod:`thermokernels.model.extended`),

    rho = sum_{x, y} pi_x P_xy (f_x - f_y)^2 / (2 sum_x pi_x f_x^2),     f = x / sqrt(pi), centred,

right to the relative errors of pi and P there. Where that leaves less than six digits:
:mod:`thermokernels.solvers.state_reduction.reduced_gap`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from thermokernels.common import arguments, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import ModelTooLargeError, NotConvergedError, NumericalError, UnresolvedError
from thermokernels.common.results import Line, Result
from thermokernels.common.tolerances import UNIT
from thermokernels.model import extended
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.extended import LONG_UNIT, ExtendedChain
from thermokernels.model.rounding import entry_error, law_error
from thermokernels.quantities import spectral_measure
from thermokernels.quantities.exchangeable import exchangeable_spectrum
from thermokernels.solvers import gap_bounds, red_black
from thermokernels.solvers.slow_cluster import slow_cluster
from thermokernels.solvers.state_reduction import reduced_gap
from thermokernels.solvers.state_reduction.gth_elimination import MAX_EXTENDED_STATES

# Relative: a bound above it is worth a factorisation, up to this many states, and then state reduction.
SHARP = 1e-6
MAX_INERTIA_STATES = 2**12


@dataclass(frozen=True, repr=False)
class SpectralGap(Result):
    """The gap per step.

    Attributes
    ----------
    value : per step
    bound : proven, on |gap - value|
    method : "eigenvalues", "lanczos" or "reduction"
    """

    _lines = (Line("gap_per_step", "value", "per step", bound="bound"),)
    _facts = ("method",)

    value: float
    bound: float
    method: str


@default_error_state
def spectral_gap(chain: GibbsChain | ExchangeableChain) -> float:
    """The gap gamma = 1 - sigma_2 of the chain, per step, right to a relative 1e-6.

    Dense for small chains; above, the least Ritz value of a Lanczos run or of block inverse iteration, both from fixed start vectors. Where
    the gap leaves these less than six digits, state reduction (:mod:`thermokernels.solvers.state_reduction.reduced_gap`), for up to
    2**11 states.

    Raises
    ------
    UnresolvedError
        Six digits of the gap are not proven: it is too small for the chain's size, or more modes are about as slow than can be told from
        the next one. :func:`solve_spectral_gap` gives the value with what is proven of it. Or it is below the range of float64.
    NotConvergedError
        The Lanczos run did not converge.
    NotReversibleError
        The kernel has no detailed balance.

    Examples
    --------
    >>> import thermokernels as tk
    >>> round(tk.spectral_gap(tk.gibbs_chain([[0.0, 0.0]], quotient=False)), 12)  # free spins: 1 / N
    0.333333333333
    """
    if isinstance(chain, ExchangeableChain):
        return exchangeable_spectrum.gap(chain)
    found = solve_spectral_gap(chain)
    if not found.bound <= SHARP * found.value:
        raise UnresolvedError(
            f"the spectral gap of about {found.value:.3g} per step is certified to a relative {found.bound / found.value:.2g} only, not "
            f"{SHARP:g}: use solve_spectral_gap(chain), which gives the value with its bound, or scale the couplings down"
        )
    return found.value


@default_error_state
def solve_spectral_gap(chain: GibbsChain, sharp: bool = True) -> SpectralGap:
    """:func:`thermokernels.spectral_gap` with the proven bound of its error.

    Parameters
    ----------
    chain : GibbsChain
    sharp : whether a bound above 1e-6 of the gap is worth a dense factorisation, and then state reduction. Without, a gap whose second
        mode is about as slow keeps the bound of interlacing, a share of the gap itself; the value is the same.

    Raises and source as there and above.

    Examples
    --------
    >>> import thermokernels as tk
    >>> gap = solve_spectral_gap(tk.gibbs_chain([[0.0, 0.0]], quotient=False))
    >>> round(gap.value, 12), gap.bound < 1e-13, gap.method
    (0.333333333333, True, 'eigenvalues')
    """
    chain, sharp = as_chain(chain), arguments.as_flag(sharp, "sharp")
    chain.require_reversible()
    try:
        found = _from_eigenvalues(chain) if chain.n_states <= spectral_measure.DENSE_STATES else _from_lanczos(chain, sharp)
    except NumericalError:
        if not reduced_gap.applies_to(chain):
            raise
        found = None
    resolved = found is not None and found.value >= tolerances.REDUCED_GAP
    if (found is None or not resolved or (sharp and found.bound > SHARP * found.value)) and reduced_gap.applies_to(chain):
        value, relative = reduced_gap.reduced_gap(chain)
        return SpectralGap(value, relative * value, "reduction")
    if found is None or not found.bound < found.value:
        raise UnresolvedError("no digit of the spectral gap is certain in float64; scale the couplings down")
    return found


def _from_eigenvalues(chain: GibbsChain) -> SpectralGap:
    matrix = chain.symmetrised_generator_matrix()
    matrix += 2.0 * np.outer(chain.root_law, chain.root_law)  # moves the null vector above the spectrum, which ends at 1
    eigenvalues, vectors = scipy.linalg.eigh(matrix, check_finite=False)
    # psi is right to law_error / 2 and the sum over the states
    error = 2 * entry_error(chain) + 4 * (law_error(chain) + (sum(chain.shape) + 8) * UNIT)
    error += reduced_gap.eigenvalue_error(matrix, eigenvalues, vectors)
    near = chain.n_states <= MAX_EXTENDED_STATES and extended.applies_to(chain) and chain.root_law.min() > 0.0
    value, residual, rounding = (_extended_rayleigh if near else _rayleigh)(chain, vectors[:, 0])
    next_ = float(eigenvalues[1]) - error if chain.n_states > 2 else np.inf
    lowest = max(float(eigenvalues[0]) - error, _temple(value, residual, rounding, next_))
    return SpectralGap(value, max(value - lowest, 0.0) + rounding, "eigenvalues")


def _from_lanczos(chain: GibbsChain, sharp: bool) -> SpectralGap:
    value, lowest, rounding, failure = np.inf, 0.0, 0.0, None
    try:
        value, lowest, rounding = _from_one_mode(chain, _ritz_vector(chain))
    except NotConvergedError as error:
        failure = error
    if sharp and not value - lowest <= SHARP * value:
        with suppress(NumericalError, ModelTooLargeError):
            cluster = slow_cluster(chain, 0.1 * SHARP)
            value, lowest = min(value, float(cluster.values[0])), max(lowest, float(cluster.lower[0]))
            rounding = max(rounding, cluster.rounding)
    if failure is not None and value == np.inf:
        raise failure
    if sharp and value - lowest > SHARP * value and chain.n_states <= MAX_INERTIA_STATES and chain.dynamics.single_flips:
        lowest = max(lowest, _inertia(chain, (1 - SHARP / 2) * value) - rounding)
    if not lowest > 0.0:
        lowest = gap_bounds.gap_lower_bound(chain)
    return SpectralGap(value, max(value - lowest, 0.0) + rounding, "lanczos")


def gap_of_mode(chain: GibbsChain, mode: Floats) -> SpectralGap | None:
    """The gap where ``mode`` (n_states,) is proven to be the slowest mode, as sharply as :func:`spectral_gap` asks for; else None."""
    value, lowest, rounding = _from_one_mode(chain, mode)
    if value < tolerances.REDUCED_GAP or not value - lowest + rounding <= SHARP * value:
        return None
    return SpectralGap(value, value - lowest + rounding, "lanczos")


def _from_one_mode(chain: GibbsChain, vector: Floats) -> tuple[float, float, float]:
    """The gap, Temple's lower bound or 0, and the rounding of either, from what may be the slowest mode."""
    value, residual, rounding = _rayleigh(chain, vector)
    ground = int(chain.law.argmax())
    other = int((-np.sign(vector[ground]) * vector).argmax())  # where the slowest mode has most of its other side
    try:
        next_ = gap_bounds.rate_bound(chain, np.array([ground, other]), value + rounding)
    except UnresolvedError:
        return value, 0.0, rounding
    return value, _temple(value, residual, rounding, next_), rounding


def _rayleigh(chain: GibbsChain, vector: Floats) -> tuple[float, float, float]:
    """rho and |A x - rho x| of an eigenvector, normalised and projected here, and what rounding can add to either."""
    vector = vector - (vector @ chain.root_law) * chain.root_law
    vector /= np.linalg.norm(vector)
    image = chain.apply_symmetrised_generator(vector[None, :])[0]
    value = float(vector @ image)
    # of A and its product with x; of sums over the states; of the norm of x and its component along psi
    rounding = (
        2 * entry_error(chain) + 2 * (chain.n_spins + sum(chain.shape) + 8) * UNIT + law_error(chain) * law_error(chain)
    )  # no power: it would raise where a product is inf
    return value, float(np.linalg.norm(image - value * vector)) + rounding, rounding


def _extended_rayleigh(chain: GibbsChain, vector: Floats) -> tuple[float, float, float]:
    """The same in long double, rounded once; the vector is what float64 has found, whatever that is off by."""
    tables = ExtendedChain(chain)
    rates, error = extended.transition_rates(tables)
    function = vector / tables.root_law
    function -= tables.law @ function
    differences = function[:, None] - function
    norm = tables.law @ function**2
    value = (tables.law @ (rates * differences**2).sum(axis=1)) / (2 * norm)
    flows = rates * differences
    residuals, sizes = flows.sum(axis=1) - value * function, np.abs(flows).sum(axis=1) + value * np.abs(function)
    relative = 2 * tables.law_error + error + 4 * (chain.n_states + 4) * LONG_UNIT
    residual, lost = (float(np.sqrt((tables.law @ part**2) / norm)) for part in (residuals, sizes))
    return float(value), (residual + relative * lost) * (1 + relative), (relative + 2 * UNIT) * float(value)


def _temple(value: float, residual: float, rounding: float, next_: float) -> float:
    """Temple's lower bound, or 0 where the next eigenvalue is not known to be larger."""
    distance = next_ - value - rounding
    return value - rounding - residual * residual / distance if distance > 0.0 else 0.0


def _ritz_vector(chain: GibbsChain) -> Floats:
    """The vector of the slowest mode: a Lanczos run, and the same run again to add it up."""
    run = spectral_measure.gap_run(chain)
    weights = scipy.linalg.eigh_tridiagonal(run.diagonals[0], run.offdiagonals[0, :-1], select="i", select_range=(0, 0))[1]
    vector: Floats = run.combinations(weights)[0]
    return vector


def _inertia(chain: GibbsChain, shift: float) -> float:
    """``shift`` if the gap is proven to be larger, else 0; the gap of the matrix as it is stored."""
    states: NDArray[np.int64] = np.arange(chain.n_states)
    kept, left = states, states[:0]
    if red_black.applies_to(chain):
        odd = sum(states >> i & 1 for i in range(chain.n_spins)) % 2 == 1
        kept, left = sorted((states[odd], states[~odd]), key=lambda parity: float(chain.escape[parity].min()))
        if not chain.escape[left].min() > shift:
            kept, left = states, states[:0]
    couplings = _couplings(chain)
    deflated, matrix = chain.root_law[kept], np.diag(chain.escape[kept] - shift)
    size = float(chain.escape[kept].sum())
    if left.size:
        across, inverse = couplings[kept][:, left], 1.0 / (chain.escape[left] - shift)
        deflated = deflated + across @ (inverse * chain.root_law[left])
        product = (across @ scipy.sparse.diags_array(inverse) @ across.T).toarray()
        matrix -= product
        size += float(np.trace(product))
    else:
        matrix -= couplings.toarray()
    # the Schur complement takes psi to -shift times this vector: four times what makes its negative direction positive
    factor = 4.0 * shift / float(deflated @ chain.root_law[kept])
    matrix += factor * np.outer(deflated, deflated)
    # entries are sums of at most N^2 + 4 terms; theorem 2.3 asks for gamma_(n + 1) / (1 - gamma_(n + 1)) trace
    n, size = kept.size, size + factor * float(deflated @ deflated)
    matrix[np.diag_indices(n)] -= 1.01 * (n + 1 + 4 * (chain.n_spins**2 + 4)) * UNIT * size
    try:
        scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return 0.0
    return shift


def _couplings(chain: GibbsChain) -> scipy.sparse.csr_array:
    """S off its diagonal, (n_states, n_states) sparse."""
    states = np.arange(chain.n_states)
    h, v = np.divmod(states, chain.shape[1])
    rates = np.concatenate([*(row[h] for row in chain.visible_rates), *(row[v] for row in chain.hidden_rates)])
    others = np.concatenate([states ^ mask for mask in chain.flip_masks])
    return scipy.sparse.csr_array((rates, (np.tile(states, chain.n_spins), others)), shape=2 * (chain.n_states,))
