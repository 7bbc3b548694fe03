"""Tables over the configurations of a layer: the local fields of the other layer's spins, the energies, and the rates of flips.

The field of a visible spin depends on the hidden configuration alone, and the other way round: 2**n_h and 2**n_v columns tell all rates of
the 2**N states. Every kernel is made of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.model.kernels import rounded_once


@jit
def _local_fields(weights, field, fields):
    """fields[i, s] = field_i + sum_j weights[i, j] spin_j(s), for the configurations s < fields.shape[1] of the other block."""
    n_spins, n_others = weights.shape
    for configuration in range(fields.shape[1]):
        for i in range(n_spins):
            total = 0.0
            for j in range(n_others):
                spin = 1 - 2 * ((configuration >> j) & 1)
                total += weights[i, j] * spin
            # The field comes last, so that without fields the table is exactly odd under a flip of all spins.
            fields[i, configuration] = field[i] + total


@jit
def _energy_row(visible_local_fields, h, of_hidden, row):
    """row[v] = of_hidden - sum_i v_i F_i(h) by doubling: a new -1 spin adds 2 F_i."""
    lowest = of_hidden
    for i in range(visible_local_fields.shape[0]):
        lowest -= visible_local_fields[i, h]
    row[0] = lowest
    for i in range(visible_local_fields.shape[0]):
        half = 1 << i
        step = 2.0 * visible_local_fields[i, h]
        for v in range(half):
            row[half + v] = row[v] + step


@jit
def _energies(visible_local_fields, c, energy):
    """energy[h, v] = -sum_i v_i F_i(h) - sum_j c_j h_j."""
    for h in range(energy.shape[0]):
        of_hidden = 0.0
        for j in range(c.size):
            of_hidden -= c[j] * (1 - 2 * ((h >> j) & 1))
        _energy_row(visible_local_fields, h, of_hidden, energy[h])


@jit
def _flip_tables(fields, n_spins, rates, flips):
    """rates = S(x, x^i) = 1 / (2 N cosh F); flips[bit] = P(x, x^i) = sigmoid(-2 x_i F) / N for spin +1 (bit 0) and -1 (bit 1)."""
    for i in range(fields.shape[0]):
        for s in range(fields.shape[1]):
            field = fields[i, s]
            decay = math.exp(-abs(field))
            scale = 1.0 / (n_spins * (1.0 + decay * decay))
            rates[i, s] = decay * scale
            aligned = 0 if field >= 0 else 1
            flips[aligned, i, s] = decay * decay * scale
            flips[1 - aligned, i, s] = scale


@jit
def _block_tables(weights, field, n_spins, remainders, fields, rates, flips):
    """Local fields of one block's spins, what rounding leaves of them, and :func:`_flip_tables`, right to a few roundings of themselves."""
    rounded_once._local_fields(weights, field, fields, remainders)
    _flip_tables(fields, n_spins, rates, flips)
    for i in range(fields.shape[0]):
        for s in range(fields.shape[1]):
            # what rounding of the fields has left out, to first order: dlog S / dF = -tanh F, dlog sigmoid(-2 F) / dF = -2 sigmoid(2 F)
            remainder = remainders[i, s]
            slope = n_spins * (flips[1, i, s] - flips[0, i, s])  # tanh F = sigmoid(2 F) - sigmoid(-2 F)
            rates[i, s] -= rates[i, s] * (slope * remainder)
            moved = 2.0 * n_spins * remainder * flips[0, i, s] * flips[1, i, s]
            flips[0, i, s] -= moved
            flips[1, i, s] += moved


class FlipTables(NamedTuple):
    """Tables of one block's spins over the other block's configurations: local fields, S(x, x^i), P(x, x^i) at +1 and -1."""

    fields: np.ndarray
    rates: np.ndarray
    flips: np.ndarray


def flip_tables(weights: Floats, b: Floats, c: Floats, n_hidden_states: int) -> tuple[FlipTables, FlipTables]:
    """The tables of the visible spins, (n_v, n_hidden_states), and of the hidden ones, (n_h, 2**n_v); flips are (2, ...).

    Rates are per step: S(x, x^i) = 1 / (2 N cosh F_i), the heat bath symmetrised by sqrt(pi), and P(x, x^i) = sigmoid(-2 x_i F_i) / N.
    Each is right to a few roundings of itself, however large the couplings are.
    """
    n_visible, n_hidden = weights.shape

    def block(block_weights: Floats, field: Floats, n_configurations: int) -> FlipTables:
        fields, remainders, rates = np.empty((3, field.size, n_configurations))
        flips = np.empty((2, field.size, n_configurations))
        _block_tables(block_weights, field, n_visible + n_hidden, remainders, fields, rates, flips)
        return FlipTables(fields, rates, flips)

    return block(weights, b, n_hidden_states), block(np.ascontiguousarray(weights.T), c, 2**n_visible)
