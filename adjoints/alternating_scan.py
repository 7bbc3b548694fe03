"""Gradient of T_O of the alternating scan with respect to couplings and fields, from the two solutions of its bilinear form.

As in :mod:`thermokernels.quantities.alternating_scan` x and y are states of the near and of the far layer, s_i and t_j their spins, C their
coupling; vectors carry the root of a law. All sums over pairs (x, y) but one factor into sums over a layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adjoints.cotangents import Cotangents
from thermokernels.common import blas, threads
from thermokernels.common.arrays import Floats
from thermokernels.model.chain import block_spins
from thermokernels.model.model import Model
from thermokernels.quantities.alternating_scan import AlternatingTime
from thermokernels.quantities.scan_layers import Layers

# Far states a task takes at a time: a block of the matrix over pairs of states stays in the cache.
ROWS = 64


# T_a = Var f + max over z1, min over z2 of E[z1 f~] + E[u eta2] - E[z1 z2] + E[eta1 eta2], u = E[f~ | y], eta = E[z | y], stationary in
# both, so that only the laws move: with U = u + eta1 and g = dlog pi / dtheta, one of s_k t_l, s_k, t_l, dT_a / dtheta = Cov_pi(g, Phi_a),
#   Phi_a =  f~^2                                                                                                          (lag zero)
#          + f~ z1(x)                                                                                                           (near)
#          + f~ eta2(y)                                                                                                          (far)
#          + U(y) z2(x)                                                                                                      (forward)
#          + z1(x) eta2(y)                                                                                                  (backward)
#          - z1(x) z2(x)                                                                                                   (near norm)
#          - U(y) eta2(y)                                                                                                   (far norm)
class Potential(NamedTuple):
    """pi sum_a Phi_a, as what it is made of; every part may be None.

    near, far : (near,), (far,), functions of one layer with the law on them
    along_far_spins : (n_far, near), X in sum_j t_j X_j(x) sqrt(pi(y)) C; along_near_spins : (n_near, far) likewise
    pair : (k, far) and (k, near), rows L and R of C sum_k L_k(y) R_k(x)
    total : sum over all states
    """

    total: float
    near: Floats | None = None
    far: Floats | None = None
    along_far_spins: Floats | None = None
    along_near_spins: Floats | None = None
    pair: tuple[Floats, Floats] | None = None


class Vectors(NamedTuple):
    """z1, z2 (k, near) and u, U, eta2 (k, far), with roots of the laws; means (k,): a row a coupling, zero for those that do not exist."""

    z1: Floats
    z2: Floats
    u: Floats
    U: Floats
    eta2: Floats
    means: Floats


def _vectors(time: AlternatingTime) -> Vectors:
    layers, part = time.layers, time.parts["couplings"]
    conditional = np.tanh(layers.far_field)[:, None] * layers.far_spins
    conditional = np.where(layers.edges.reshape(*conditional.shape[:2], 1), conditional, 0.0)
    u = layers.of_far(conditional)
    z1, z2 = (_on_couplings(layers, one.vectors) for one in (part.left, part.right))
    means = np.einsum("ay,y->a", conditional.reshape(len(u), -1), layers.far_root**2)
    return Vectors(z1, z2, u, u + layers.system.to_far(z1), layers.system.to_far(z2), means)


def _on_couplings(layers: Layers, rows: Floats) -> Floats:
    """Rows of the couplings that exist among rows of all, zero for the others."""
    if layers.edges.all():
        return rows
    every = np.zeros((layers.edges.size, rows.shape[1]))
    every[layers.edges] = rows
    return every


def _lag_zero(layers: Layers, of: Vectors) -> Potential:
    means = of.means.reshape(len(layers.near_spins), -1)
    along = -2 * layers.near_root * (means.T @ layers.near_spins)  # f~^2 = 1 - 2 m f + m^2, and the constants do not count
    return Potential(-2 * float(of.means @ of.means), along_far_spins=along)


def _near(layers: Layers, of: Vectors) -> Potential:
    tables = of.z1.reshape(len(layers.near_spins), -1, of.z1.shape[1])
    along = np.einsum("ix,ijx->jx", layers.near_spins, tables)
    near = -layers.near_root * (of.means @ of.z1)
    conditional = np.tanh(layers.near_field)
    return Potential(float(np.einsum("jx,jx,x->", along, conditional, layers.near_root) + near.sum()), near=near, along_far_spins=along)


def _far(layers: Layers, of: Vectors) -> Potential:
    tables = of.eta2.reshape(len(layers.near_spins), -1, of.eta2.shape[1])
    along = np.einsum("jy,ijy->iy", layers.far_spins, tables)
    far = -layers.far_root * (of.means @ of.eta2)
    conditional = np.tanh(layers.far_field)
    return Potential(float(np.einsum("iy,iy,y->", along, conditional, layers.far_root) + far.sum()), far=far, along_near_spins=along)


def _forward(layers: Layers, of: Vectors) -> Potential:
    return Potential(float(np.einsum("ay,ay->", of.U, of.eta2)), pair=(of.U, of.z2))


def _backward(layers: Layers, of: Vectors) -> Potential:
    return Potential(float(np.einsum("ay,ay->", of.U - of.u, of.eta2)), pair=(of.eta2, of.z1))


def _near_norm(layers: Layers, of: Vectors) -> Potential:
    near = -np.einsum("ax,ax->x", of.z1, of.z2)
    return Potential(float(near.sum()), near=near)


def _far_norm(layers: Layers, of: Vectors) -> Potential:
    far = -np.einsum("ay,ay->y", of.U, of.eta2)
    return Potential(float(far.sum()), far=far)


class Moments(NamedTuple):
    """Sums of a function over all states with s_k t_l (n_near, n_far), s_k and t_l."""

    both: Floats
    near: Floats
    far: Floats


def _moments(layers: Layers, potentials: list[Potential]) -> Moments:
    """sum over the states of pi Phi g for all g."""
    s, t, root, far_root = layers.near_spins, layers.far_spins, layers.near_root, layers.far_root
    tau, sigma = np.tanh(layers.near_field), np.tanh(layers.far_field)
    both, near, far = np.zeros((len(s), len(t))), np.zeros(len(s)), np.zeros(len(t))
    # E[t_l | x] = tau_l, E[t_j t_l | x] = tau_j tau_l + [j = l] sech^2 F_l; the same of s given y
    weights = _sum([part.near for part in potentials])
    if weights is not None:
        both, near, far = both + (s * weights) @ tau.T, near + s @ weights, far + tau @ weights
    weights = _sum([part.far for part in potentials])
    if weights is not None:
        both, near, far = both + sigma @ (t * weights).T, near + sigma @ weights, far + t @ weights
    along = _sum([part.along_far_spins for part in potentials])
    if along is not None:
        mean = root * np.einsum("jx,jx->x", along, tau)
        spread = root * along / np.cosh(layers.near_field) ** 2 + tau * mean
        both, near, far = both + s @ spread.T, near + s @ mean, far + spread.sum(axis=1)
    along = _sum([part.along_near_spins for part in potentials])
    if along is not None:
        mean = far_root * np.einsum("iy,iy->y", along, sigma)
        spread = far_root * along / np.cosh(layers.far_field) ** 2 + sigma * mean
        both, near, far = both + spread @ t.T, near + spread.sum(axis=1), far + t @ mean
    pairs = [part.pair for part in potentials if part.pair is not None]
    if pairs:
        rows = np.concatenate([left for left, _ in pairs]), np.concatenate([right for _, right in pairs])
        of_pairs = _pair_moments(layers, *rows)
        both, near, far = both + of_pairs.both, near + of_pairs.near, far + of_pairs.far
    return Moments(both, near, far)


def _sum(parts: list[Floats | None]) -> Floats | None:
    present = [part for part in parts if part is not None]
    return sum(present[1:], present[0]) if present else None


def _pair_moments(layers: Layers, left: Floats, right: Floats) -> Moments:
    """sum_xy C(y, x) sum_k L_k(y) R_k(x) g(x, y): the one sum over pairs of states, block by block as matrix products.

    On pairs {x, -x} L and R are even and s_k t_l is odd in either layer: C(y, x) - C(-y, x) = C({y}, {x}) tanh(s'W t) takes the place of C.
    """
    s, t, coupling, pairs = layers.near_spins, layers.far_spins, layers.system.coupling, layers.chain.quotient
    energies = layers.chain.weights.T @ s  # (n_far, near)
    n_blocks = -(-len(coupling) // ROWS)
    sums = np.empty((n_blocks, len(s) + 1, len(t) + 1))

    def task(block: int) -> None:
        rows = slice(ROWS * block, min(ROWS * (block + 1), len(coupling)))
        matrix = left[:, rows].T @ right
        matrix *= coupling[rows]
        if pairs:
            matrix *= np.tanh(t[:, rows].T @ energies)
        over_near = np.concatenate([matrix @ s.T, matrix.sum(axis=1)[:, None]], axis=1)
        sums[block] = over_near.T @ np.concatenate([t[:, rows].T, np.ones((over_near.shape[0], 1))], axis=1)

    with blas.one_thread():
        threads.for_each(task, n_blocks, coupling.size * len(left))
    total = sums.sum(axis=0)
    return Moments(total[:-1, :-1], total[:-1, -1], total[-1, :-1])


def gradient(time: AlternatingTime, lag_zero: float = 1.0, others: float = 1.0) -> Cotangents:
    """The gradient of lag_zero sum_a Var f_a + others (T_O - sum_a Var f_a); on pairs {x, -x} that of the fields is zero by symmetry."""
    layers, of = time.layers, _vectors(time)
    potentials = [_scaled(_lag_zero(layers, of), lag_zero)]
    potentials += [_scaled(term(layers, of), others) for term in (_near, _far, _forward, _backward, _near_norm, _far_norm)]
    moments, total = _moments(layers, potentials), sum(part.total for part in potentials)
    s, t, near_law, far_law = layers.near_spins, layers.far_spins, layers.near_root**2, layers.far_root**2
    weights = moments.both - total * of.means.reshape(len(s), len(t))
    if layers.chain.quotient:
        near, far = np.zeros(len(s)), np.zeros(len(t))
    else:
        near, far = moments.near - total * (s @ near_law), moments.far - total * (t @ far_law)
    return _by_layer(layers, weights, near, far)


def _by_layer(layers: Layers, weights: Floats, near: Floats, far: Floats) -> Cotangents:
    """Derivatives by couplings (n_near, n_far), those that exist, and by the fields of either layer."""
    weights = np.where(layers.edges.reshape(weights.shape), weights, 0.0)
    return Cotangents(np.ascontiguousarray(weights.T), far, near) if layers.transposed else Cotangents(weights, near, far)


# |g|^2 as in adjoints/signal_to_noise.py, here without a sum over all states: phi(x) = sum_ij g_ij s_i t_j is linear in the far spins,
#   d|g|^2 = 2 Cov_pi(phi, dlog pi)                                                                                  (law of the layers)
#          - 2 sum_v p(v) sech^2 F_l(v) (sum_i g_il v_i) v_k                                                         (data on the layer)
def signal_cotangents(layers: Layers, model: Model, p_data: Floats, g: Floats) -> Cotangents:
    """The gradient of |g|^2 for g (n_v, n_h); on pairs {x, -x} only that of the couplings is right."""
    of_model, of_data = _signal_of_model(layers, g), _signal_of_data(model, p_data, g)
    return Cotangents(*(2 * (one + other) for one, other in zip(of_model, of_data, strict=True)))


def _signal_of_model(layers: Layers, g: Floats) -> Cotangents:
    s, t, near_law, far_law = layers.near_spins, layers.far_spins, layers.near_root**2, layers.far_root**2
    tau = np.tanh(layers.near_field)
    along = layers.near_root * ((g if layers.transposed else g.T) @ s)
    means = s @ (tau * near_law).T
    total = float(np.einsum("jx,jx,x->", along, tau, layers.near_root))
    moments = _moments(layers, [Potential(total, along_far_spins=along)])
    weights, near, far = moments.both - total * means, moments.near - total * (s @ near_law), moments.far - total * (t @ far_law)
    return _by_layer(layers, weights, near, far)


def _signal_of_data(model: Model, p_data: Floats, g: Floats) -> Cotangents:
    visible = block_spins(model.n_visible, 2**model.n_visible)
    data = p_data[:, None] * (visible @ g) / np.cosh(visible @ model.W + model.c) ** 2
    return Cotangents(model.on_edges(-visible.T @ data), np.zeros(model.n_visible), -data.sum(axis=0))


def _scaled(part: Potential, factor: float) -> Potential:
    if factor == 1.0:
        return part
    pair = None if part.pair is None else (factor * part.pair[0], part.pair[1])
    of_layers = (part.near, part.far, part.along_far_spins, part.along_near_spins)
    near, far, of_far, of_near = (None if array is None else factor * array for array in of_layers)
    return Potential(factor * part.total, near, far, of_far, of_near, pair)
