"""Off-diagonal transition rates of every reversible kernel, each right to a relative error however small it is.

No rate is a difference and none underflows: conditional laws are products of sigmoids with exponents of their own
(:mod:`thermokernels.compiled.wide_exponent`), and what leads from x to y on several ways is added up. With p(v | h), p(h | v) and, on pairs
{x, -x}, the complement ~ of a configuration,

    two blocks                P((h, v), (h, w)) = p(w | h) / 2,   P((h, v), (g, v)) = p(g | v) / 2
    symmetrised alternating   P((h, v), (g, w)) = (p(w | h) p(g | w) + p(g | v) p(w | g)) / 2
    one layer                 K(v, w) = sum_h p(h | v) p(w | h)

On pairs a hidden block whose last spin is -1 stands for the complement pair, so that p(w | h) is joined by p(~w | h) wherever only the pair
matters that is met next. 1 - P_xx is the sum of a row without its diagonal.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled import wide_exponent
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.wide_exponent import Wide, add, multiply

# Plain matrix products serve as long as no product of two conditional probabilities comes near underflow.
SMALLEST_FACTOR = 1e-145


def sigmoid(arguments: Floats, remainders: Floats) -> Wide:
    """1 / (1 + exp(-x - r)) elementwise, r remainders of the rounding of x: dlog sigmoid / dx = 1 - sigmoid."""
    decay = np.exp(-np.abs(arguments))
    scale = 1.0 / (1.0 + decay)
    scale += scale * (remainders * np.where(arguments > 0.0, decay * scale, scale))
    return wide_exponent.product(wide_exponent.exponential(np.minimum(arguments, 0.0)), wide_exponent.from_floats(scale))


def conditional_laws(fields: tuple[Floats, Floats], remainders: tuple[Floats, Floats]) -> tuple[Wide, Wide]:
    """p(v | h) and p(h | v), both (H, V), from the local fields (n_v, H) and (n_h, V) and what rounding has left out of them."""
    shape = fields[0].shape[1], fields[1].shape[1]
    visible = _block_law(fields[0], remainders[0], shape[1])
    hidden = _block_law(fields[1], remainders[1], shape[0])
    return visible, Wide(np.ascontiguousarray(hidden.mantissa.T), np.ascontiguousarray(hidden.exponent.T))


def _block_law(fields: Floats, remainders: Floats, n_configurations: int) -> Wide:
    """(configurations of the other block, configurations): prod_i sigmoid(2 s_i F_i)."""
    law = wide_exponent.from_floats(np.ones((fields.shape[1], n_configurations)))
    configurations = np.arange(n_configurations)
    for i, (field, rest) in enumerate(zip(fields, remainders, strict=True)):
        down = (configurations >> i) & 1
        factors = sigmoid(2.0 * np.stack([field, -field]), 2.0 * np.stack([rest, -rest]))
        law = wide_exponent.product(law, Wide(factors.mantissa[down].T, factors.exponent[down].T))
    return law


def two_block(visible: Wide, hidden: Wide, quotient: bool) -> Wide:
    """Rates (n_states, n_states) of (Pi_v + Pi_h) / 2; the diagonal is zero."""
    rates = _zeros(visible.mantissa.size, visible.mantissa.size)
    _two_block(*_half(visible), *_half(hidden), quotient, *rates)
    return _without_diagonal(rates)


def symmetrised_alternating(visible: Wide, hidden: Wide, quotient: bool) -> Wide:
    """Rates (n_states, n_states) of (Pi_v Pi_h + Pi_h Pi_v) / 2; the diagonal is zero."""
    rates = _zeros(visible.mantissa.size, visible.mantissa.size)
    met = [_with_complement(law, quotient) for law in (visible, hidden)]
    _symmetrised_alternating(*_half(met[0]), *hidden, *_half(met[1]), *visible, *rates)
    return _without_diagonal(rates)


def visible_layer(visible: Wide, hidden: Wide, quotient: bool) -> Wide:
    """Rates of K on the visible configurations, on pairs {v, -v} those with the last spin at +1; the diagonal is zero."""
    n_states = visible.mantissa.shape[1] // (2 if quotient else 1)
    columns = slice(None), slice(n_states)
    first, second = (_with_complement(law, quotient).take(columns) for law in (hidden, visible))
    return _without_diagonal(_sums_of_products(first, second))


def hidden_layer(visible: Wide, hidden: Wide, quotient: bool) -> Wide:
    """Rates of the twin of K on the hidden configurations; the diagonal is zero."""
    first, second = (
        Wide(np.ascontiguousarray(law.mantissa.T), np.ascontiguousarray(law.exponent.T))
        for law in (visible, _with_complement(hidden, quotient))
    )
    return _without_diagonal(_sums_of_products(first, second))


def _with_complement(law: Wide, quotient: bool) -> Wide:
    """law[h, v] + law[h, ~v] on pairs."""
    if not quotient:
        return law
    joined = Wide(law.mantissa.copy(), law.exponent.copy())
    _add_reversed(*law, *joined)
    return joined


def _sums_of_products(left: Wide, right: Wide) -> Wide:
    """sum_m left[m, x] right[m, y]: plain where no factor is near underflow, for terms are of one sign."""
    plain = left.to_floats(), right.to_floats()
    if all(part.min() >= SMALLEST_FACTOR for part in plain):
        return wide_exponent.from_floats(plain[0].T @ plain[1])
    n_states = left.mantissa.shape[1]
    sums = _zeros(n_states, n_states)
    _add_products(*left, *right, *sums)
    return sums


def _half(law: Wide) -> Wide:
    return wide_exponent.normalised(0.5 * law.mantissa, law.exponent)


def _zeros(*shape: int) -> Wide:
    return Wide(np.zeros(shape), np.zeros(shape, dtype=np.int64))


def _without_diagonal(rates: Wide) -> Wide:
    np.fill_diagonal(rates.mantissa, 0.0)
    np.fill_diagonal(rates.exponent, 0)
    return rates


@jit
def _add_reversed(law, powers, joined, joined_powers):
    n_columns = law.shape[1]
    for h in range(law.shape[0]):
        for v in range(n_columns):
            w = n_columns - 1 - v
            joined[h, v], joined_powers[h, v] = add(joined[h, v], joined_powers[h, v], law[h, w], powers[h, w])


@jit
def _add_products(left, left_powers, right, right_powers, sums, powers):
    for x in range(sums.shape[0]):
        for m in range(left.shape[0]):
            for y in range(sums.shape[1]):
                term, exponent = multiply(left[m, x], left_powers[m, x], right[m, y], right_powers[m, y])
                sums[x, y], powers[x, y] = add(sums[x, y], powers[x, y], term, exponent)


@jit
def _two_block(visible, visible_powers, hidden, hidden_powers, quotient, rates, powers):
    n_rows, n_columns = visible.shape
    for h in range(n_rows):
        for v in range(n_columns):
            x = h * n_columns + v
            for w in range(n_columns):
                rates[x, h * n_columns + w], powers[x, h * n_columns + w] = visible[h, w], visible_powers[h, w]
            for g in range(n_rows):
                for w in (v, n_columns - 1 - v):
                    if w == v or quotient:
                        y = g * n_columns + w
                        rates[x, y], powers[x, y] = add(rates[x, y], powers[x, y], hidden[g, w], hidden_powers[g, w])


@jit
def _symmetrised_alternating(
    visible_met, visible_met_powers, hidden, hidden_powers, hidden_met, hidden_met_powers, visible, visible_powers, rates, powers
):
    n_rows, n_columns = visible.shape
    for h in range(n_rows):
        for v in range(n_columns):
            x = h * n_columns + v
            for g in range(n_rows):
                for w in range(n_columns):
                    first, power = multiply(visible_met[h, w], visible_met_powers[h, w], hidden[g, w], hidden_powers[g, w])
                    second, exponent = multiply(hidden_met[g, v], hidden_met_powers[g, v], visible[g, w], visible_powers[g, w])
                    y = g * n_columns + w
                    rates[x, y], powers[x, y] = add(first, power, second, exponent)
