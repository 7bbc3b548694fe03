"""Sums over observables, a chunk of them at a time: right-hand sides are built, solved for, added up and forgotten.

An observable is a combination f_w = sum_ij w_ij f_ij = -v'w h of the gradient observables, its right-hand side
b = sqrt(pi) (f_w - E_pi f_w). Everything that follows from it is a number of its own or is added to sums over the observables in their
order within a block (:mod:`thermokernels.solvers.observable_tasks`), so that no bit of a result depends on how many of them a chunk holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self

import numpy as np

from thermokernels.common import footprint, threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, add, fill, load, multiply, multiply_add, total
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.flip_tables import _energy_row, _local_fields
from thermokernels.solvers.checkpoint import Array
from thermokernels.solvers.resolvent import Solution, Solver

# Entries that are added up together: fewer would cost more than they are worth.
SHORTEST_BLOCK = 256


class Accumulator(Protocol):
    """What is added up over observables. ``arrays`` is all of its state, by name, and is changed in place."""

    arrays: dict[str, Array]

    @classmethod
    def empty(cls, chain: GibbsChain, n_rows: int) -> Self:
        """One that has seen none of its ``n_rows`` observables."""

    def add(self, rows: slice, right_hand_sides: Floats, solution: Solution) -> None:
        """Take in the observables ``rows``, with b and z of each a row of (k, n_states)."""

    def merge(self, rows: slice, arrays: Mapping[str, Array]) -> None:
        """Take in the observables ``rows`` as the ``arrays`` of another one that has seen these and nothing else."""


@jit
def _inner(x, y):
    """x'y in a fixed order of summation, of any length."""
    if x.size % DOUBLES == 0:
        return simd_states.dot(x, y)
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
def _add_up(sources, vectors, residuals, diagonal, block, sums):
    """sums[a] = b'z, r'z, |r|^2, |z|^2, |b|^2 and sum_x A_xx z_x^2 of observable a, in one pass; an empty diagonal is one.

    Every ``block`` entries have a sum of their own, so that rounding grows with their number and that of the blocks, not with the product.
    """
    whole = sources.shape[1] // DOUBLES * DOUBLES
    for a in range(sources.shape[0]):
        b, z, r, out = sources[a], vectors[a], residuals[a], sums[a]
        out[:] = 0.0
        for first in range(0, whole, block):
            bz, rz, rr, zz, bb, dz = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
            for k in range(first, min(first + block, whole), DOUBLES):
                source, solution, residual = load(b, k), load(z, k), load(r, k)
                bz, rz = multiply_add(source, solution, bz), multiply_add(residual, solution, rz)
                rr, bb = multiply_add(residual, residual, rr), multiply_add(source, source, bb)
                square = multiply(solution, solution)
                zz = add(zz, square)
                dz = multiply_add(load(diagonal, k), square, dz) if diagonal.size > 0 else zz
            out[0], out[1], out[2] = out[0] + total(bz), out[1] + total(rz), out[2] + total(rr)
            out[3], out[4], out[5] = out[3] + total(zz), out[4] + total(bb), out[5] + total(dz)
        for k in range(whole, z.size):  # of fewer than eight states
            square = z[k] * z[k]
            out[0], out[1], out[2] = out[0] + b[k] * z[k], out[1] + r[k] * z[k], out[2] + r[k] * r[k]
            out[3], out[4], out[5] = out[3] + square, out[4] + b[k] * b[k], out[5] + (diagonal[k] if diagonal.size > 0 else 1.0) * square


class Observables:
    """Combinations f_w of the gradient observables of a chain, ``coefficients`` (k, n_v, n_h); ``means`` (k,) are their -E_pi[f_w]."""

    def __init__(self, chain: GibbsChain, coefficients: Floats, means: Floats) -> None:
        self.chain, self.coefficients, self.means = chain, coefficients, means

    @classmethod
    def combined(cls, chain: GibbsChain, means: Floats, coefficients: Floats) -> Self:
        """From the ``means`` (n_v, n_h), E_pi[v_i h_j]."""
        return cls(chain, coefficients, np.einsum("aij,ij->a", coefficients, means))

    @property
    def n_rows(self) -> int:
        return len(self.coefficients)

    def right_hand_sides(self, rows: slice) -> Floats:
        """b_a of the given rows, (k, n_states)."""
        chain, means = self.chain, self.means[rows]
        result = simd_states.aligned_empty(len(means), chain.n_states)
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
        self._chain = chain
        self._block = max(chain.shape[1], SHORTEST_BLOCK)
        self._n_states = chain.n_states

    @classmethod
    def empty(cls, chain: GibbsChain, n_rows: int) -> Self:
        return cls(chain, n_rows)

    @classmethod
    def of(cls, chain: GibbsChain, sums: Floats, residual: float, iterations: int) -> Self:
        """From the sums of all rows, made elsewhere."""
        whole = cls(chain, 0)
        whole.arrays = {"sums": sums, "worst": np.array([residual, iterations])}
        return whole

    def add(self, rows: slice, right_hand_sides: Floats, solution: Solution) -> None:
        sums = self.arrays["sums"][rows]
        # the diagonal of a block kernel is at most 1
        diagonal = self._chain.escape if self._chain.dynamics.single_flips else np.empty(0)

        def add_up(part: slice) -> None:
            _add_up(right_hand_sides[part], solution.vectors[part], solution.residuals[part], diagonal, self._block, sums[part])

        threads.for_rows(add_up, len(sums), right_hand_sides.size)
        worst = self.arrays["worst"]
        worst[:] = max(worst[0], solution.relative_residual), max(worst[1], solution.iterations)

    def merge(self, rows: slice, arrays: Mapping[str, Array]) -> None:
        self.arrays["sums"][rows] = arrays["sums"]
        np.maximum(self.arrays["worst"], arrays["worst"], out=self.arrays["worst"])

    @property
    def values(self) -> Floats:
        """b'z + r'z = 2 b'z - z'Az of each observable."""
        values: Floats = self.arrays["sums"][:, 0] + self.arrays["sums"][:, 1]
        return values

    @property
    def additions(self) -> int:
        """Roundings, one after the other, of a term of the sums: its product; in a lane, of lanes, of blocks, of what fills no lane."""
        return 4 + min(self._block, self._n_states) // DOUBLES + self._n_states // self._block + self._n_states % DOUBLES

    @property
    def residual(self) -> float:
        return float(self.arrays["worst"][0])

    @property
    def iterations(self) -> int:
        return int(self.arrays["worst"][1])


Sums = list[dict[str, Array]]


def solve_in_chunks(
    solver: Solver,
    observables: Observables,
    first: int,
    kinds: tuple[type[Accumulator], ...],
    take: Callable[[slice, Sums], None],
    tell: Callable[[int], None],
) -> tuple[Floats, Solution] | None:
    """Solve for the observables from ``first``, the head of a block, on.

    ``take(rows, sums)`` gets every block when it is complete, the sums one of each kind, and ``tell(done)`` is called after every chunk.
    Returned are right-hand sides and solutions themselves where all were in memory at once.
    """
    chain, n_rows = solver.chain, observables.n_rows
    block = footprint.block_rows(chain.n_states)
    # a factorisation is for few states, and its solutions depend on their neighbours in the last bits
    together = n_rows if solver.method == "cholesky" else footprint.rows_at_once(n_rows, chain.n_states)
    kept = None
    start, stop, parts = first, first, list[Accumulator]()
    while stop < n_rows:
        start, stop = stop, min(stop + together, n_rows)
        if stop < n_rows and (edge := stop // block * block) > start:
            stop = edge
        right_hand_sides = observables.right_hand_sides(slice(start, stop))
        solution = solver.solve(right_hand_sides)
        for low in (start, *range(start // block * block + block, stop, block)):
            head = low // block * block
            tail, high = min(head + block, n_rows), min(head + block, stop)
            if low == head:
                parts = [kind.empty(chain, tail - head) for kind in kinds]
            inside, here = slice(low - head, high - head), slice(low - start, high - start)
            sources, solved = right_hand_sides[here], solution.part(here)
            for part in parts:
                part.add(inside, sources, solved)
            if high == tail:
                take(slice(head, tail), [part.arrays for part in parts])
        kept = (right_hand_sides, solution) if (start, stop) == (0, n_rows) else None
        del right_hand_sides, solution, sources, solved
        tell(stop)
    return kept
