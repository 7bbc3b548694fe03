"""All tables of a chain on both layers in one compiled call: fields, rates, energies, the law, each right to a few roundings of itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.model.kernels.flip_tables import _block_tables
from thermokernels.model.kernels.rounded_once import _energies, _weights

# Half a unit in the last place, and by what share of a rounding sums in pairs of doubles are wrong.
UNIT, SECOND_ORDER = 2.0**-53, 1e-10


class ChainTables(NamedTuple):
    """The arrays of :class:`thermokernels.model.chain.GibbsChain` under its names."""

    energy: Floats  # (n_states,), as law and root_law
    law: Floats
    root_law: Floats
    visible_local_fields: Floats  # (n_v, H), as visible_rates; visible_flips (2, n_v, H)
    visible_rates: Floats
    visible_flips: Floats
    hidden_local_fields: Floats  # (n_h, V), as hidden_rates; hidden_flips (2, n_h, V)
    hidden_rates: Floats
    hidden_flips: Floats


@jit
def _empty_tables(n_visible, n_hidden, quotient):
    n_rows, n_columns = 1 << (n_hidden - (1 if quotient else 0)), 1 << n_visible
    n_states, visible, hidden = n_rows * n_columns, (n_visible, n_rows), (n_hidden, n_columns)
    of_states = np.empty(n_states), np.empty(n_states), np.empty(n_states)
    of_visible = np.empty(visible), np.empty(visible), np.empty((2, n_visible, n_rows))
    return ChainTables(*of_states, *of_visible, np.empty(hidden), np.empty(hidden), np.empty((2, n_hidden, n_columns)))


def empty_tables(n_visible: int, n_hidden: int, quotient: bool) -> ChainTables:
    """Tables that have not been filled yet."""
    tables: ChainTables = _empty_tables(n_visible, n_hidden, bool(quotient))
    return tables


@jit
def _fill_tables(weights, visible_field, hidden_field, tables):
    """Fill the tables of the model; returns sum_x exp(E(ground) - E(x)), and what rounding has left out of -E(ground).

    The sum is infinite where an energy is not finite.
    """
    (n_visible, n_rows), (n_hidden, n_columns) = tables.visible_rates.shape, tables.hidden_rates.shape
    n_spins = n_visible + n_hidden
    of_visible, of_hidden = np.empty(tables.visible_rates.shape), np.empty(tables.hidden_rates.shape)
    columns = np.ascontiguousarray(weights.T)
    fields, rates, flips = tables.hidden_local_fields, tables.hidden_rates, tables.hidden_flips
    _block_tables(columns, hidden_field, n_spins, of_hidden, fields, rates, flips)
    fields, rates, flips = tables.visible_local_fields, tables.visible_rates, tables.visible_flips
    _block_tables(weights, visible_field, n_spins, of_visible, fields, rates, flips)
    energy, rests = tables.energy.reshape((n_rows, n_columns)), np.empty((n_rows, n_columns))
    _energies(tables.visible_local_fields, of_visible, hidden_field, energy, rests)
    rest, ground = rests.ravel(), 0
    for x in range(tables.energy.size):
        here, lowest = tables.energy[x], tables.energy[ground]
        if not np.isfinite(here):
            return np.inf, 0.0
        if here < lowest or (here == lowest and rest[x] < rest[ground]):
            ground = x
    total = _weights(tables.energy, rest, ground, tables.law, tables.root_law)
    root = np.sqrt(total)
    for x in range(tables.energy.size):
        tables.law[x] /= total
        tables.root_law[x] /= root
    return total, -rest[ground] - tables.energy[ground]


@jit
def _coupling_sums(weights, visible_field, hidden_field):
    """The sum of all |couplings| and |fields|, which no energy exceeds, and the largest of one spin, which no local field does."""
    of_visible, of_hidden, largest, columns = 0.0, 0.0, 0.0, np.empty(hidden_field.size)
    for i in range(visible_field.size):
        of_visible += abs(visible_field[i])
    for j in range(hidden_field.size):
        columns[j] = abs(hidden_field[j])
        of_hidden += columns[j]
    total = of_visible + of_hidden
    for i in range(visible_field.size):
        row = abs(visible_field[i])
        for j in range(hidden_field.size):
            size = abs(weights[i, j])
            row += size
            total += size
            columns[j] += size
        largest = max(largest, row)
    for j in range(hidden_field.size):
        largest = max(largest, columns[j])
    return total, largest


@jit
def _law_error(total):
    """Relative error of every pi_x of both layers: of exp, sum and quotient, and the second order of the remainder of an energy."""
    remainder = total * UNIT * (1.0 + SECOND_ORDER)
    return 16.0 * UNIT + 4.0 * remainder * remainder


@jit
def _rate_error(largest):
    """Relative error of sigmoid(-2 x_i F_i) / N: of exp, sum, quotient and products, and the remainder's second order."""
    remainder = largest * UNIT
    return 12.0 * UNIT + 4.0 * remainder * remainder
