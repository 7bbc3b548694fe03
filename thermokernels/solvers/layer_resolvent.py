"""A z = b with A = I - (C'C)^m on one layer, for many right-hand sides at once as matrix products.

C (far, near) couples the two layers of an alternating scan (:mod:`thermokernels.model.kernels.one_layer`): C'C is its kernel on the near
layer, symmetrised, with the null vector sqrt(pi) of A; m counts the sweeps between records. Conjugate gradients (Hestenes and Stiefel,
J. Res. Nat. Bur. Stand. 49 (1952) 409) on blocks of rows, each on one thread with one BLAS thread: how rows are cut into blocks depends on
their number alone, and so no bit on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from thermokernels.common import blas, threads
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NotConvergedError
from thermokernels.solvers.conjugate_gradients import inner_products, solve_by_products

# Right-hand sides multiplied together at the most: enough for products to run at the speed of BLAS, few enough for several threads.
BLOCK = 96

# A residual is checked against rtol after it was driven to this share of it.
AIM = 0.05


@dataclass(frozen=True, eq=False)
class LayerSolution:
    """Solutions of A z = b, one a row.

    Attributes
    ----------
    vectors, residuals : (k, near), z orthogonal to sqrt(pi), and the true residuals b - A z
    relative_residual : the largest |b - A z| / |b|; iterations : the largest number of a row
    """

    vectors: Floats
    residuals: Floats
    relative_residual: float
    iterations: int

    def part(self, rows: slice) -> LayerSolution:
        """Some of the rows, with what is known about all of them."""
        return replace(self, vectors=self.vectors[rows], residuals=self.residuals[rows])


@dataclass(frozen=True, eq=False)
class LayerSystem:
    """A = I - (C'C)^every on the near layer.

    Attributes
    ----------
    coupling : C, (far, near), C-contiguous; root_law : sqrt(pi) of the near layer, (near,)
    every : sweeps between records
    """

    coupling: Floats
    root_law: Floats
    every: int = 1

    def to_far(self, rows: Floats) -> Floats:
        """Rows (k, near) times C'."""
        return self._in_blocks(rows, self.coupling.shape[0], lambda block: block @ self.coupling.T)

    def to_near(self, rows: Floats) -> Floats:
        """Rows (k, far) times C."""
        return self._in_blocks(rows, self.coupling.shape[1], lambda block: block @ self.coupling)

    def apply(self, rows: Floats) -> Floats:
        """(C'C)^every for the rows of one block (k, near), on this thread."""
        for _ in range(self.every):
            rows = (rows @ self.coupling.T) @ self.coupling
        return rows

    def solve(self, right_hand_sides: Floats, rtol: float) -> LayerSolution:
        """Solutions of A z = b for the rows b, orthogonal to sqrt(pi).

        Raises
        ------
        NotConvergedError
            A row missed the relative residual ``rtol``.
        """
        vectors, residuals = np.empty_like(right_hand_sides), np.empty_like(right_hand_sides)
        iterations = np.zeros(len(right_hand_sides), dtype=np.int64)

        def solve_block(rows: slice) -> None:
            b = right_hand_sides[rows]
            vectors[rows], iterations[rows] = solve_by_products(lambda x: x - self.apply(x), self.root_law, b, AIM * rtol)
            residuals[rows] = b - vectors[rows] + self.apply(vectors[rows])

        self._for_blocks(solve_block, len(right_hand_sides), 50 * self.every)
        sizes, errors = (np.sqrt(inner_products(part, part)) for part in (right_hand_sides, residuals))
        relative = float(np.max(np.divide(errors, sizes, out=np.zeros_like(sizes), where=sizes > 0), initial=0.0))
        most = int(iterations.max(initial=0))
        if not relative <= rtol:  # also when it is NaN
            raise NotConvergedError(
                f"the resolvent on one layer was solved to a relative residual of {relative:.2g}, not {rtol:.2g} ({most} iterations): the "
                "chain is too slow for float64; scale the couplings down, or accept a larger rtol"
            )
        return LayerSolution(vectors, residuals, relative, most)

    def _in_blocks(self, rows: Floats, length: int, multiply: Callable[[Floats], Floats]) -> Floats:
        products = np.empty((len(rows), length))

        def task(block: slice) -> None:
            products[block] = multiply(rows[block])

        self._for_blocks(task, len(rows), 1)
        return products

    def _for_blocks(self, task: Callable[[slice], None], n_rows: int, n_products: int) -> None:
        """task of an even number of equal blocks of rows, on threads where ``n_products`` products with C a row are worth it."""
        n_blocks = max(1, min(n_rows, 2 * -(-n_rows // (2 * BLOCK))))
        edges = [n_rows * block // n_blocks for block in range(n_blocks + 1)]
        with blas.one_thread():
            work = n_rows * n_products * self.coupling.size
            threads.for_each(lambda block: task(slice(edges[block], edges[block + 1])), n_blocks, work)
