"""Local fields, energies and laws that are right to a few roundings of themselves, however large the couplings are.

A sum of couplings carries roundings of the size of its largest terms, and exp makes relative errors of them. Fields and energies are
therefore summed in pairs of doubles, value and remainder (two-sum: Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B), and
the remainder r enters to first order: exp(x + r) = exp(x) (1 + r).
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit

# Weights below this lose digits to underflow, their roots do not.
SMALLEST_WEIGHT = 1e-300


@jit
def _add(value, remainder, term):
    """The pair (value, remainder) + term, not normalised."""
    total = value + term
    part = total - value
    return total, remainder + ((value - (total - part)) + (term - part))


@jit
def _local_fields(weights, field, fields, remainders):
    """fields + remainders [i, s] = field_i + sum_j weights[i, j] spin_j(s), for the configurations s < fields.shape[1] of the other block.

    The field comes last, so that without fields both tables are exactly odd under a flip of all spins.
    """
    n_spins, n_others = weights.shape
    for configuration in range(fields.shape[1]):
        for i in range(n_spins):
            total, rest = 0.0, 0.0
            for j in range(n_others):
                spin = 1 - 2 * ((configuration >> j) & 1)
                total, rest = _add(total, rest, weights[i, j] * spin)
            total, rest = _add(total, rest, field[i])
            fields[i, configuration], remainders[i, configuration] = _add(total, 0.0, rest)


@jit
def _energies(fields, field_remainders, c, energy, remainders):
    """energy + remainders [h, v] = -sum_i v_i F_i(h) - sum_j c_j h_j, F = fields + field_remainders, (n_v, H).

    By doubling: a new -1 spin adds 2 F_i.
    """
    n_columns = energy.shape[1]
    for h in range(energy.shape[0]):
        row, rest = energy[h], remainders[h]
        row[0], rest[0] = 0.0, 0.0
        for j in range(c.size):
            row[0], rest[0] = _add(row[0], rest[0], -c[j] * (1 - 2 * ((h >> j) & 1)))
        for i in range(fields.shape[0]):
            row[0], rest[0] = _add(row[0], rest[0] - field_remainders[i, h], -fields[i, h])
        for i in range(fields.shape[0]):
            half = 1 << i
            step, step_rest = 2.0 * fields[i, h], 2.0 * field_remainders[i, h]
            for v in range(half):
                row[half + v], rest[half + v] = _add(row[v], rest[v] + step_rest, step)
        for v in range(n_columns):
            row[v], rest[v] = _add(row[v], 0.0, rest[v])


@jit
def _weights(energy, remainders, ground, weights, roots):
    """weights = exp(E(ground) - E) and their roots, E = energy + remainders; returns the sum of the weights, to two roundings (Kahan).

    Remainders of large energies are large themselves: exp(x + r) is exp(x) (1 + r) only once x + r is rounded to x.
    """
    total, lost = 0.0, 0.0
    for x in range(energy.size):
        exponent, rest = _add(energy[ground], remainders[ground] - remainders[x], -energy[x])
        exponent, rest = _add(exponent, 0.0, rest)
        weight = np.exp(exponent)
        weight += weight * rest
        if weight >= SMALLEST_WEIGHT:
            roots[x] = np.sqrt(weight)
        else:
            root = np.exp(0.5 * exponent)
            roots[x] = root + root * (0.5 * rest)
        weights[x] = weight
        term = weight - lost
        updated = total + term
        lost = (updated - total) - term
        total = updated
    return total


def add(value: Floats, remainder: Floats, term: Floats) -> tuple[Floats, Floats]:
    """The pairs (value, remainder) + term, elementwise and not normalised."""
    total = value + term
    part = total - value
    return total, remainder + ((value - (total - part)) + (term - part))


def local_fields(weights: Floats, field: Floats, n_configurations: int) -> tuple[Floats, Floats]:
    """F_i and what rounding it leaves, (n, n_configurations) each: the field on the spins of ``weights`` (n, others)."""
    fields, remainders = np.empty((2, field.size, n_configurations))
    _local_fields(np.ascontiguousarray(weights), field, fields, remainders)
    return fields, remainders


def energies(fields: Floats, field_remainders: Floats, c: Floats) -> tuple[Floats, Floats]:
    """E(x) rounded once, and what the rounding leaves, (H, V) each."""
    energy, remainders = np.empty((2, fields.shape[1], 1 << fields.shape[0]))
    _energies(fields, field_remainders, c, energy, remainders)
    return energy, remainders


def boltzmann_weights(energy: Floats, remainders: Floats) -> tuple[Floats, Floats, float, int]:
    """exp(min E - E) and its root for flat arrays, the sum of the weights, and the state of least E."""
    weights, roots = np.empty_like(energy), np.empty_like(energy)
    lowest = np.flatnonzero(energy == energy.min())
    ground = int(lowest[remainders[lowest].argmin()])
    total = _weights(energy, remainders, ground, weights, roots)
    return weights, roots, float(total), ground
