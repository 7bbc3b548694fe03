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
from thermokernels.compiled.simd_states import DOUBLES, add, fill, load, multiply, multiply_add, store, total
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.flip_tables import _energy_row
from thermokernels.solvers import row_sums
from thermokernels.solvers.checkpoint import Array
from thermokernels.solvers.resolvent import Solution, Solver


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
def _of_hidden_spins(coefficients, functions, spins):
    """functions[k, v] = -sum_i w_ij v_i for the hidden spins j = spins[k] that have any coefficient, of which the number is returned."""
    count = 0
    for j in range(coefficients.shape[1]):
        for i in range(coefficients.shape[0]):
            if coefficients[i, j] != 0.0:
                _energy_row(coefficients, j, 0.0, functions[count])
                spins[count] = j
                count += 1
                break
    return count


@jit
def _sources(coefficients, means, root_law, rows):
    """rows[a] = sqrt(pi) (f + means[a]) of f = -v'w h with w = coefficients[a], and without what rounding leaves along sqrt(pi)."""
    n_hidden, (n_rows, n_columns) = coefficients.shape[2], rows.shape[1:]
    functions, spins = np.empty((n_hidden, n_columns)), np.empty(n_hidden, np.int64)
    flat, whole = functions.ravel(), n_columns // DOUBLES * DOUBLES
    for a in range(rows.shape[0]):
        count = _of_hidden_spins(coefficients[a], functions, spins)
        values, mean, along, rest = rows[a].ravel(), fill(means[a]), fill(0.0), 0.0
        for h in range(n_rows):
            first, of_row = h * n_columns, fill(0.0)
            for v in range(0, whole, DOUBLES):
                f = mean
                for k in range(count):
                    f = multiply_add(fill(1.0 - 2.0 * ((h >> spins[k]) & 1)), load(flat, k * n_columns + v), f)
                root = load(root_law, first + v)
                here = multiply(root, f)
                store(values, first + v, here)
                of_row = multiply_add(root, here, of_row)
            along = add(along, of_row)
            for v in range(whole, n_columns):  # of fewer than eight columns
                f_narrow = means[a]
                for k in range(count):
                    f_narrow += (1 - 2 * ((h >> spins[k]) & 1)) * functions[k, v]
                values[first + v] = root_law[first + v] * f_narrow
                rest += root_law[first + v] * values[first + v]
        # rounding of the mean: of an observable that hardly varies it is a large share
        rest += total(along)
        remove, together = fill(-rest), values.size // DOUBLES * DOUBLES
        for x in range(0, together, DOUBLES):
            store(values, x, multiply_add(remove, load(root_law, x), load(values, x)))
        for x in range(together, values.size):
            values[x] -= rest * root_law[x]


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

    def right_hand_sides(self, rows: slice, room: Floats | None = None) -> Floats:
        """b_a of the given rows, (k, n_states), in the ``room`` for them where it is given."""
        chain, means = self.chain, self.means[rows]
        result = simd_states.aligned_empty(len(means), chain.n_states) if room is None else room
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
        self.arrays: dict[str, Array] = {"sums": np.zeros((n_rows, row_sums.N_SUMS)), "worst": np.zeros(2)}
        self._chain = chain

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
        self.arrays["sums"][rows] = solution.sums
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
        """Roundings, one after the other, of a term of the sums."""
        return row_sums.additions(self._chain)

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
) -> None:
    """Solve for the observables from ``first``, the head of a block, on.

    ``take(rows, sums)`` gets every block when it is complete, the sums one of each kind, and ``tell(done)`` is called after every chunk.
    """
    chain, n_rows = solver.chain, observables.n_rows
    block = footprint.block_rows(chain.n_states)
    # a factorisation is for few states, and its solutions depend on their neighbours in the last bits
    together = n_rows if solver.method == "cholesky" else footprint.rows_at_once(n_rows, chain.n_states)
    # memory that is at hand: what is fresh costs a page fault for every 4 KiB, a tenth of a solve
    rooms = simd_states.aligned_empty(2, min(together, n_rows - first), chain.n_states)
    start, stop, parts = first, first, list[Accumulator]()
    while stop < n_rows:
        start, stop = stop, min(stop + together, n_rows)
        if stop < n_rows and (edge := stop // block * block) > start:
            stop = edge
        right_hand_sides = observables.right_hand_sides(slice(start, stop), rooms[0, : stop - start])
        solution = solver.solve(right_hand_sides, rooms[1, : stop - start])
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
        tell(stop)
