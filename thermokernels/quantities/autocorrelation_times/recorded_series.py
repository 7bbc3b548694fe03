"""The series that a sampler writes down: the exact autocorrelation of one function of the state, recorded every k-th step.

Of a reversible kernel the autocovariances are a spectral sum,

    C(t) = sum_m w_m sigma_m^(k t),     w_m = <f~, phi_m>^2.

The alternating scan is not reversible on both layers, but all that is asked of it is, on one: with u(h) = E[f~ | h] and w(v) = E[f~ | v],

    C(t) = < R u , K_v^(k t - 1) w >,    (R u)(v) = E[u | v],    K_v(v, v') = sum_h p(h | v) p(v' | h),

and 4 <a, K b> = <a + b, K (a + b)> - <a - b, K (a - b)> makes two spectral sums of it. On the hidden layer, where that is the smaller,
a = u and b = E[w | h].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.kernels.two_block import resample_hidden, resample_visible
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times

# Chains of at most so many states are diagonalised, larger ones are seen through so many Lanczos vectors.
DENSE_STATES = 2**7
LANCZOS_VECTORS = 160
# States that a product of P may take between two records, and as many as take the time of a call.
MOST_WORK, CALL = 2**38, 2**12
# Lags of which the powers of all modes are taken at once, and the share below which a mode is forgotten.
LAGS_AT_ONCE = 4096
FORGOTTEN = 1e-18

Modes = tuple[Floats, Floats]  # eigenvalues and weights


@dataclass(frozen=True)
class RecordedSeries:
    """Made by :func:`recorded_series`.

    Attributes
    ----------
    tau, tau_error : 1 + 2 sum_(t > 0) rho(t) in records, and a bound on its error
    variance : C(0)
    nodes, weights : C(t) = weights @ nodes**(t - 1) for t >= 1
    """

    tau: float
    tau_error: float
    variance: float
    nodes: Floats = field(repr=False)
    weights: Floats = field(repr=False)

    def autocovariances(self, n_lags: int) -> Floats:
        """C(t) for t < n_lags, (n_lags,)."""
        covariances = np.zeros(n_lags)
        covariances[0] = self.variance
        nodes, weights = self.nodes, self.weights
        for first in range(1, n_lags, LAGS_AT_ONCE):
            lags = np.arange(min(LAGS_AT_ONCE, n_lags - first))
            covariances[first : first + lags.size] = weights @ np.power(nodes[:, None], lags)
            weights = weights * nodes**LAGS_AT_ONCE
            alive = np.abs(weights) > FORGOTTEN * self.variance
            nodes, weights = nodes[alive], weights[alive]
            if not alive.any():
                break
        return covariances


def recorded_series(chain: GibbsChain, function: Floats, every: int = 1, function_error: float = 0.0) -> RecordedSeries:
    """The series of ``function`` (n_states,), recorded every ``every`` steps of the stationary chain; of every kernel.

    ``function_error`` as of :func:`thermokernels.quantities.autocorrelation_times.autocorrelation.autocorrelation_times`.

    Raises
    ------
    ConstantError
        The function does not vary under pi in float64.
    UnresolvedError, NotConvergedError
        The chain is too slow for an exact time, or too many steps lie between records.

    Examples
    --------
    >>> import thermokernels as tk
    >>> chain = tk.gibbs_chain([[0.0]], quotient=False)  # one of two free spins is renewed at every step
    >>> series = recorded_series(chain, np.array([1.0, -1.0, 1.0, -1.0]))
    >>> round(series.tau, 12), series.autocovariances(4).round(12).tolist()
    (3.0, [1.0, 0.5, 0.25, 0.125])
    """
    if every * max(chain.n_states, CALL) > MOST_WORK:
        raise UnresolvedError(f"{every} steps lie between records, and so many products of P would take hours: record more often")
    times, errors, variances = autocorrelation_times(chain, function[:, None], every=every, function_error=function_error)
    if chain.reversible:
        nodes, weights = _modes(chain, function)
        weights = weights * nodes**every
    else:
        nodes, weights = _signed_modes(*_on_one_layer(chain, function - chain.law @ function))
        weights = weights * nodes ** (every - 1)
    return RecordedSeries(float(times[0]), float(errors[0]), float(variances[0]), nodes**every, weights)


def _on_one_layer(chain: GibbsChain, centred: Floats) -> tuple[GibbsChain, Floats, Floats]:
    """The chain on the smaller layer, and a and b with C(t) = <a, K^(k t - 1) b>."""
    visible_law, hidden_law = chain.conditional_laws
    rows = centred.reshape(1, *chain.shape)
    given_hidden, given_visible = resample_visible(rows, visible_law), resample_hidden(rows, hidden_law, chain.quotient)
    if chain.n_visible <= chain.n_hidden:
        layer = gibbs_chain(chain.model, kernel=chain.dynamics.of_one_layer["visible"], quotient=chain.quotient)
        pair = resample_hidden(given_hidden, hidden_law, chain.quotient), given_visible
        left, right = (values[0, 0, : layer.n_states].copy() for values in pair)
    else:
        layer = gibbs_chain(chain.model, kernel=chain.dynamics.of_one_layer["hidden"], quotient=chain.quotient)
        left, right = (values[0, :, 0].copy() for values in (given_hidden, resample_visible(given_visible, visible_law)))
    return layer, left, right


def _signed_modes(layer: GibbsChain, left: Floats, right: Floats) -> Modes:
    parts = [(sign, _modes(layer, function)) for sign, function in ((0.25, left + right), (-0.25, left - right))]
    return np.concatenate([nodes for _, (nodes, _) in parts]), np.concatenate([sign * weights for sign, (_, weights) in parts])


def _modes(chain: GibbsChain, function: Floats) -> Modes:
    """Eigenvalues of P and the weights of ``function`` in them, without the mean; of a large chain those of Gauss quadrature."""
    root = chain.root_law
    start = root * (function - chain.law @ function)
    norm = float(np.linalg.norm(start))
    if norm == 0.0:
        return np.zeros(0), np.zeros(0)
    if chain.n_states <= DENSE_STATES:
        gaps, vectors = np.linalg.eigh(chain.symmetrised_generator_matrix() + np.outer(root, root))
        return 1.0 - gaps, (start @ vectors) ** 2
    basis, diagonal, beside = [start / norm], [], []
    for _ in range(min(LANCZOS_VECTORS, chain.n_states - 1)):
        image = chain.apply_symmetrised_generator(basis[-1][None])[0]
        diagonal.append(float(basis[-1] @ image))
        known = np.stack([*basis, root])
        for _ in range(2):  # against all before, twice: otherwise copies of the slow modes come back
            image = image - known.T @ (known @ image)
        size = float(np.linalg.norm(image))
        if size < 1e-13:
            break
        beside.append(size)
        basis.append(image / size)
    size = len(diagonal)
    gaps, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[: size - 1], 1) + np.diag(beside[: size - 1], -1))
    return 1.0 - gaps, (norm * vectors[0]) ** 2
