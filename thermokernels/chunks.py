"""Sums over observables, a chunk of them at a time: right-hand sides are built, solved for, added up and forgotten.

An observable is a combination f_w = sum_ij w_ij f_ij = -v'w h of the gradient observables, its right-hand side
b = sqrt(pi) (f_w - E_pi f_w). Everything that follows from it is a number of its own or is added to sums over the observables in their
order, so that no bit of a result depends on how many of them a chunk holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from thermokernels import footprint, threads, vector
from thermokernels._jit import jit
from thermokernels.arguments import Floats
from thermokernels.chain import GibbsChain
from thermokernels.checkpoint import Array, Checkpoint
from thermokernels.resolvent import Solution, Solver
from thermokernels.single_site import _energy_row, _local_fields
from thermokernels.vector import LANES, add, fill, load, multiply, multiply_add, total

Progress = Callable[[int, int], None]


class Accumulator(Protocol):
    """Sums over observables. ``arrays`` is all of its state, by name, and is changed in place."""

    arrays: dict[str, Array]

    def add(self, rows: slice, right_hand_sides: Floats, vectors: Floats) -> None:
        """Take in the observables ``rows``, with b and z of each a row of (k, n_states)."""


@jit
def _inner(x, y):
    """x'y in a fixed order of summation, of any length."""
    if x.size % LANES == 0:
        return vector.dot(x, y)
    narrow = 0.0
    for k in range(x.size):
        narrow += x[k] * y[k]
    return narrow


@jit
def _sources(coefficients, means, root_law, rows):
    """rows[a] = sqrt(pi) (f + means[a]) of f = -v'w h with w = coefficients[a], and without what rounding leaves along sqrt(pi)."""
    n_visible, (n_rows, n_columns) = coefficients.shape[1], rows.shape[1:]
    fields, no_field = np.empty((n_visible, n_rows)), np.zeros(n_visible)
    for a in range(rows.shape[0]):
        _local_fields(coefficients[a], no_field, fields)
        mean, along = means[a], 0.0
        for h in range(n_rows):
            row, roots = rows[a, h], root_law[h * n_columns : (h + 1) * n_columns]
            _energy_row(fields, h, 0.0, row)  # f is the energy of the couplings w
            for v in range(n_columns):
                row[v] = roots[v] * (row[v] + mean)
            along += _inner(row, roots)
        # rounding of the mean: of an observable that hardly varies it is a large share
        for h in range(n_rows):
            row, roots = rows[a, h], root_law[h * n_columns : (h + 1) * n_columns]
            for v in range(n_columns):
                row[v] -= along * roots[v]


@jit
def _add_up(sources, vectors, residuals, diagonal, sums):
    """sums[a] = b'z, r'z, |r|^2, |z|^2, |b|^2 and sum_x A_xx z_x^2 of observable a, in one pass; an empty diagonal is one."""
    whole = sources.shape[1] // LANES * LANES
    for a in range(sources.shape[0]):
        b, z, r, out = sources[a], vectors[a], residuals[a], sums[a]
        bz, rz, rr, zz, bb, dz = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
        for k in range(0, whole, LANES):
            source, vector, residual = load(b, k), load(z, k), load(r, k)
            bz, rz = multiply_add(source, vector, bz), multiply_add(residual, vector, rz)
            rr, bb = multiply_add(residual, residual, rr), multiply_add(source, source, bb)
            square = multiply(vector, vector)
            zz = add(zz, square)
            dz = multiply_add(load(diagonal, k), square, dz) if diagonal.size > 0 else zz
        out[0], out[1], out[2], out[3], out[4], out[5] = total(bz), total(rz), total(rr), total(zz), total(bb), total(dz)
        for k in range(whole, z.size):  # of fewer than eight states
            square = z[k] * z[k]
            out[0], out[1], out[2] = out[0] + b[k] * z[k], out[1] + r[k] * z[k], out[2] + r[k] * r[k]
            out[3], out[4], out[5] = out[3] + square, out[4] + b[k] * b[k], out[5] + (diagonal[k] if diagonal.size > 0 else 1.0) * square


class Observables:
    """Combinations f_w of the gradient observables of a chain, ``coefficients`` (k, n_v, n_h); ``means`` (n_v, n_h) are E_pi[v_i h_j]."""

    def __init__(self, chain: GibbsChain, means: Floats, coefficients: Floats) -> None:
        self.chain, self.coefficients = chain, coefficients
        self._means = np.einsum("aij,ij->a", coefficients, means)

    @property
    def n_rows(self) -> int:
        return len(self.coefficients)

    def right_hand_sides(self, rows: slice) -> Floats:
        """b_a of the given rows, (k, n_states)."""
        chain, means = self.chain, self._means[rows]
        result = vector.aligned_empty(len(means), chain.n_states)
        coefficients, tables = self.coefficients[rows], result.reshape(-1, *chain.shape)

        def build(part: slice) -> None:
            _sources(coefficients[part], means[part], chain.root_law, tables[part])

        threads.for_rows(build, len(means), result.size)
        return result


class RowSums:
    """What T_O and the bounds on its error need of each observable.

    Attributes
    ----------
    arrays : "sums" (k, 6), b'z, r'z, |r|^2, |z|^2, |b|^2 and sum_x A_xx z_x^2; "worst" (2,), the largest relative residual and the
        largest number of iterations so far
    """

    def __init__(self, chain: GibbsChain, n_rows: int) -> None:
        self.arrays: dict[str, Array] = {"sums": np.zeros((n_rows, 6)), "worst": np.zeros(2)}
        # the diagonal of a block kernel is at most 1
        self._diagonal = chain.escape if chain.kernel == "single-site" else np.empty(0)

    def add(self, rows: slice, right_hand_sides: Floats, solution: Solution) -> None:
        sums = self.arrays["sums"][rows]

        def add_up(part: slice) -> None:
            _add_up(right_hand_sides[part], solution.vectors[part], solution.residuals[part], self._diagonal, sums[part])

        threads.for_rows(add_up, len(sums), right_hand_sides.size)
        worst = self.arrays["worst"]
        worst[:] = max(worst[0], solution.relative_residual), max(worst[1], solution.iterations)

    @property
    def values(self) -> Floats:
        """b'z + r'z = 2 b'z - z'Az of each observable."""
        values: Floats = self.arrays["sums"][:, 0] + self.arrays["sums"][:, 1]
        return values

    @property
    def residual(self) -> float:
        return float(self.arrays["worst"][0])

    @property
    def iterations(self) -> int:
        return int(self.arrays["worst"][1])


def accumulate(
    solver: Solver,
    observables: Observables,
    accumulators: Sequence[Accumulator] = (),
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[RowSums, tuple[Floats, Solution] | None]:
    """Solve for all observables and add them up; also right-hand sides and solutions themselves where all were in memory at once.

    ``progress(done, total)`` is called after every chunk. A checkpoint is read first and written after every chunk.
    """
    chain, n_rows = solver.chain, observables.n_rows
    row_sums = RowSums(chain, n_rows)
    done = np.zeros(1, dtype=np.int64)
    state = row_sums.arrays | {"done": done}
    for accumulator in accumulators:
        state |= accumulator.arrays
    for name, array in (checkpoint.load() if checkpoint else {}).items():
        if name in state:
            state[name][...] = array
    if done[0] and progress:
        progress(int(done[0]), n_rows)
    # a factorisation is for few states, and its solutions depend on their neighbours in the last bits
    together = n_rows if solver.method == "cholesky" else footprint.rows_at_once(n_rows, chain.n_states)
    kept = None
    while done[0] < n_rows:
        rows = slice(int(done[0]), min(int(done[0]) + together, n_rows))
        right_hand_sides = observables.right_hand_sides(rows)
        solution = solver.solve(right_hand_sides)
        row_sums.add(rows, right_hand_sides, solution)
        for accumulator in accumulators:
            accumulator.add(rows, right_hand_sides, solution.vectors)
        done[0] = rows.stop
        kept = (right_hand_sides, solution) if rows == slice(0, n_rows) else None
        del right_hand_sides, solution
        if checkpoint:
            checkpoint.save(state)
        if progress:
            progress(rows.stop, n_rows)
    return row_sums, kept
