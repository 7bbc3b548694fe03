"""|g|^2 without bias, from groups of replicates: a U-statistic, and its covariance with T_O from leaving out a group at a time.

Let D be the data's part of g, F_k independent unbiased estimates of the model's, w_k, of mean one, the sum of the weights in F_k, and M_g
the sum of F_k - w_k D over the n_g replicates of group g. Then

    |g|^2  is estimated by  (|sum_g M_g|^2 - sum_g |M_g|^2) / (n^2 - sum_g n_g^2),

the mean of (F_k - w_k D)'(F_l - w_l D) over replicates of different groups. All of it, with any group left out, follows from the Gram
matrix of M.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats

# At most so many sums of the size of W are kept.
MOST_GROUPS = 40
# Fewer do not show their own spread: a square without bias takes two, and one more that can be left out.
FEWEST_GROUPS = 3
# So much of them at a time stays in the cache.
COLUMNS = 1024


class Groups:
    """Sums over groups of replicates; what comes as number k goes to group k % 40."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sums: list[Floats] = []
        self.counts: list[int] = []
        self.weights: list[float] = []
        self.members: list[list[int]] = []
        self.n_taken = 0

    def take(self, sums: Floats, weight: float, count: int, first: int) -> None:
        """Add the sums over ``count`` replicates from number ``first`` on to the group whose turn it is."""
        place = self.n_taken % MOST_GROUPS
        self.n_taken += 1
        if place == len(self.counts):
            self.sums.append(np.zeros(self.size))
            self.counts.append(0)
            self.weights.append(0.0)
            self.members.append([])
        self.sums[place] += sums
        self.counts[place] += count
        self.weights[place] += weight
        self.members[place].extend(range(first, first + count))

    def as_arrays(self) -> dict[str, Any]:
        """For a checkpoint."""
        sums = np.array(self.sums).reshape(len(self.sums), self.size)
        members = np.array([number for numbers in self.members for number in numbers], dtype=np.int64)
        return {"sums": sums, "counts": self.counts, "group_weights": self.weights, "members": members, "n_taken": self.n_taken}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.sums, self.counts, self.weights = list(state["sums"]), state["counts"].tolist(), state["group_weights"].tolist()
        self.members = [part.tolist() for part in np.split(state["members"], np.cumsum(self.counts)[:-1])] if self.counts else []
        self.n_taken = int(state["n_taken"])


@dataclass(frozen=True, eq=False)
class Signal:
    """value : |g|^2; left_out : (n_groups,) the same without each group; g : E_data f - E_pi f; members : replicates of each group"""

    value: float
    left_out: Floats
    g: Floats
    members: list[NDArray[np.int64]]


def estimate_signal(groups: Groups, data: Floats) -> Signal:
    """The U-statistic over groups; ``data`` is D as a vector."""
    counts, weights = np.array(groups.counts, dtype=np.float64), np.array(groups.weights)
    gram, mean = np.zeros((len(counts), len(counts))), np.empty(data.size)
    for first in range(0, data.size, COLUMNS):
        columns = slice(first, first + COLUMNS)
        differences = np.array([one[columns] for one in groups.sums]) - weights[:, None] * data[columns]
        gram += np.einsum("ik,jk->ij", differences, differences)  # no BLAS: the same bits whatever its threads
        mean[columns] = differences.sum(axis=0) / counts.sum()
    squares, rows, total = np.diag(gram), gram.sum(axis=1), float(gram.sum())
    n, n2 = counts.sum(), float((counts**2).sum())
    # without group g: the sum over pairs loses row g twice and counts its square once
    pairs = total - squares.sum()
    pairs_left = pairs - 2 * (rows - squares)
    value = pairs / (n * n - n2)
    left_out = pairs_left / ((n - counts) ** 2 - (n2 - counts**2))
    return Signal(float(value), left_out, mean, [np.array(numbers) for numbers in groups.members])
