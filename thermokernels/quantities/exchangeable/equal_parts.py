"""Parts of the products v_i h_j that a symmetry of the model exchanges: one of them is solved for all.

Single-site sampling does not know the names of classes or layers. Two rows have the same numbers where a permutation of the visible and
one of the hidden classes, or an exchange of the layers, takes sizes, couplings, fields, tagged classes and the pair of one to those of the
other.
Two planted patterns with classes of equal sizes leave 4 solves of 12.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from itertools import permutations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.model.exchangeable import SAME, Sector

# Orders of classes that are looked through for the first one of a model's relatives.
MOST_ORDERS = 1_000


def key(sector: Sector, pair: tuple[int, int]) -> Hashable:
    """Equal for rows whose numbers are: the least description of chain, tagged classes and pair over all names of classes and layers."""
    chain = sector.chain
    numbers = (chain.couplings, chain.b, chain.c)
    unit = SAME * max(float(np.abs(part).max(initial=0.0)) for part in numbers) or 1.0
    couplings, b, c = (np.rint(part / unit) for part in numbers)  # equal to the rounding that makes classes
    visible = _marks(chain.visible_sizes, b, sector.visible, pair[0])
    hidden = _marks(chain.hidden_sizes, c, sector.hidden, pair[1])
    return chain.killing, min(_least(visible, hidden, couplings), _least(hidden, visible, couplings.T))


def _marks(sizes: tuple[int, ...], field: Floats, tagged: int | None, chosen: int) -> list[tuple[float, ...]]:
    """What is known of every class but its couplings."""
    return [(n, float(b), c == tagged, c == chosen) for c, (n, b) in enumerate(zip(sizes, field, strict=True))]


def _least(rows: list[tuple[float, ...]], columns: list[tuple[float, ...]], couplings: Floats) -> tuple[object, ...]:
    """The least of the descriptions over the orders of classes; with too many orders, that of the given one."""
    many = math.factorial(len(rows)) * math.factorial(len(columns)) > MOST_ORDERS
    orders = [[range(len(side))] if many else [*permutations(range(len(side)))] for side in (rows, columns)]
    return min(
        (tuple(rows[c] for c in p), tuple(columns[d] for d in q), tuple(couplings[np.ix_(p, q)].ravel().tolist()))
        for p in orders[0]
        for q in orders[1]
    )
