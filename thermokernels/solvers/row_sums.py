"""What T_O and the bounds on its error need of every solution z of A z = b: six sums over the states, with the true residual r = b - A z.

A row of r is made, added up while it is in the cache, and forgotten.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import (
    DOUBLES,
    add,
    dot,
    fill,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
    total,
    zeros_on_a_line,
)
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.single_site import _apply_to_vector

# The sums, in this order: b'z, r'z, |r|^2, |z|^2, |b|^2 and sum_x A_xx z_x^2.
N_SUMS = 6
RESIDUALS, VECTORS, SOURCES = 2, 3, 4

# Entries that are added up together: fewer would cost more than they are worth.
SHORTEST_BLOCK = 256


def entries_together(chain: GibbsChain) -> int:
    """Every so many entries have a sum of their own: rounding grows with their number and that of the sums, not with the product."""
    return max(chain.shape[1], SHORTEST_BLOCK)


@jit
def _inner(x, y):
    """x'y in a fixed order of summation, of any length."""
    if x.size % DOUBLES == 0:
        return dot(x, y)
    narrow = 0.0
    for k in range(x.size):
        narrow += x[k] * y[k]
    return narrow


@jit
def _add_up(source, solution, residual, diagonal, block, out):
    """out = the six sums of one row, in one pass; an empty diagonal is one. Every ``block`` entries have a sum of their own."""
    whole = source.size // DOUBLES * DOUBLES
    out[:] = 0.0
    for first in range(0, whole, block):
        bz, rz, rr, zz, bb, dz = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
        for k in range(first, min(first + block, whole), DOUBLES):
            b, z, r = load(source, k), load(solution, k), load(residual, k)
            bz, rz = multiply_add(b, z, bz), multiply_add(r, z, rz)
            rr, bb = multiply_add(r, r, rr), multiply_add(b, b, bb)
            square = multiply(z, z)
            zz = add(zz, square)
            dz = multiply_add(load(diagonal, k), square, dz) if diagonal.size > 0 else zz
        out[0], out[1], out[2] = out[0] + total(bz), out[1] + total(rz), out[2] + total(rr)
        out[3], out[4], out[5] = out[3] + total(zz), out[4] + total(bb), out[5] + total(dz)
    for k in range(whole, source.size):  # of fewer than eight states
        b, z, r = source[k], solution[k], residual[k]
        square = z * z
        out[0], out[1], out[2] = out[0] + b * z, out[1] + r * z, out[2] + r * r
        out[3], out[4], out[5] = out[3] + square, out[4] + b * b, out[5] + (diagonal[k] if diagonal.size > 0 else 1.0) * square


@jit
def _sums(generator, block, sources, vectors, sums):
    """The sums (k, 6) of all rows of a chain of single flips and at least eight states."""
    residual, diagonal = zeros_on_a_line(vectors.shape[1]), generator.escape.ravel()
    for a in range(vectors.shape[0]):
        source = sources[a]
        _apply_to_vector(generator, vectors[a], residual)
        for k in range(0, residual.size, DOUBLES):
            store(residual, k, subtract(load(source, k), load(residual, k)))
        _add_up(source, vectors[a], residual, diagonal, block, sums[a])


@jit
def _sums_of(sources, vectors, residuals, diagonal, block, sums):
    """The sums (k, 6) of rows whose residuals are known."""
    for a in range(vectors.shape[0]):
        _add_up(sources[a], vectors[a], residuals[a], diagonal, block, sums[a])


def row_sums(chain: GibbsChain, sources: Floats, vectors: Floats) -> Floats:
    """The sums (k, 6) of the rows b of ``sources`` and z of ``vectors``, both (k, n_states)."""
    sources, vectors = np.ascontiguousarray(sources), np.ascontiguousarray(vectors)
    block, sums = entries_together(chain), np.empty((len(vectors), N_SUMS))
    if not chain.dynamics.single_flips or chain.n_states < DOUBLES:
        residuals = sources - chain.apply_symmetrised_generator(vectors)
        # the diagonal of a block kernel is at most 1
        _sums_of(sources, vectors, residuals, chain.escape if chain.dynamics.single_flips else np.empty(0), block, sums)
        return sums
    generator = chain.generator

    def add_up(rows: slice) -> None:
        _sums(generator, block, sources[rows], vectors[rows], sums[rows])

    threads.for_rows(add_up, len(vectors), vectors.size * chain.n_spins)
    return sums


def additions(chain: GibbsChain) -> int:
    """Roundings, one after the other, of a term of the sums: its product; in a lane, of lanes, of blocks, of what fills no lane."""
    block, n_states = entries_together(chain), chain.n_states
    return 4 + min(block, n_states) // DOUBLES + n_states // block + n_states % DOUBLES
