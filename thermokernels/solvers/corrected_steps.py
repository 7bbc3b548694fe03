"""Steps of the red-black conjugate gradients in float32 whose preconditioner is that of :mod:`thermokernels.solvers.layer_functions`.

W' r and W c are no products with a matrix: a function of h is one number a row, one of v a number a column, and sum_ij c_ij v_i h_j is
linear in v in every row. Both are made while a step goes through the residual and the direction anyway. What is summed over a row is kept
in the lanes of a vector until all rows are summed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.simd_states import (
    FLOATS,
    add,
    add_multiple,
    aligned_singles,
    dot,
    fill,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
    total,
)
from thermokernels.solvers.layer_functions import LayerFunctions
from thermokernels.solvers.parity_classes import Shape, _parity
from thermokernels.solvers.parity_coupling import _schur_product
from thermokernels.solvers.red_black import PROJECT_EVERY, SUMMED, _project

# Lane k of a vector belongs to bits 0 to 3 of u: signs of these four spins, and of the spin that parity decides.
LANES = np.arange(FLOATS)
PATTERNS = np.array(
    [1.0 - 2.0 * (LANES >> bit & 1) for bit in range(4)] + [np.prod([1 - 2 * (LANES >> bit & 1) for bit in range(4)], axis=0)]
)

# What is summed over the rows: psi r itself, with the sign of the spin that parity decides, and differences for every bit of u from 4 on.
PLAIN, SIGNED, DIFFERENCES = 0, 1, 2


class Room(NamedTuple):
    """Work space of one thread, float32, flat."""

    patterns: np.ndarray  # (5, 16): PATTERNS
    signs: np.ndarray  # (U / 16,): (-1)^parity of u >> 4
    places: np.ndarray  # (V,): int64, where v lies in ``columns``
    row: np.ndarray  # (U,)
    columns: np.ndarray  # (2 U,): over u, of rows of even and of odd parity
    features: np.ndarray  # (2 + log2(U / 16), H, 16)
    lanes: np.ndarray  # (n_h, 16)
    sums: np.ndarray  # (stride,): W' r
    answers: np.ndarray  # (stride,): K W' r
    slopes: np.ndarray  # (H, 16): of every row, the coefficients of the visible spins, at most 16


def room(shape: Shape, layers: LayerFunctions) -> Room:
    """Work space for one thread, empty where there are no functions."""
    if layers.size == 0:
        nothing = aligned_singles(0)
        return Room(nothing, nothing, np.empty(0, dtype=np.int64), *[nothing] * 7)
    n_half, n_rows = shape.n_half, shape.n_rows
    v = np.arange(2 * n_half)
    parities = v.copy()
    for shift in (16, 8, 4, 2, 1):
        parities ^= parities >> shift
    parities &= 1
    n_features = 2 + (n_half // FLOATS).bit_length() - 1
    patterns, signs = aligned_singles(PATTERNS.size), aligned_singles(n_half // FLOATS)
    patterns[:] = PATTERNS.ravel()
    signs[:] = 1 - 2 * parities[: n_half // FLOATS]
    return Room(
        patterns,
        signs,
        (parities * n_half + (v >> 1)).astype(np.int64),  # in rows of parity d lie the v of this parity
        aligned_singles(n_half),
        aligned_singles(2 * n_half),
        aligned_singles(n_features * n_rows * FLOATS),
        aligned_singles(layers.n_hidden * FLOATS),
        aligned_singles(layers.stride),
        aligned_singles(layers.stride),
        aligned_singles(n_rows * FLOATS),
    )


@jit
def _descend(shape, length, image, inverse, null, residual, room):
    """residual -= length * image; returns |residual| and residual' inverse residual, and leaves sums of psi * residual in the room."""
    n_rows, n_half, stride = shape.n_rows, shape.n_half, shape.stride
    row, columns, features = room.row, room.columns, room.features
    square, product, together = 0.0, 0.0, max(SUMMED // n_half, 1)
    backward = fill(np.float32(-length))
    norms, weighted = fill(np.float32(0.0)), fill(np.float32(0.0))
    columns[:] = 0.0
    for h in range(n_rows):
        odd = _parity(h)
        signed = fill(np.float32(0.0))
        for u in range(0, n_half, FLOATS):
            k, c = h * stride + u, odd * n_half + u
            r = multiply_add(backward, load(image, k), load(residual, k))
            store(residual, k, r)
            norms = multiply_add(r, r, norms)
            weighted = multiply_add(multiply(r, load(inverse, k)), r, weighted)
            y = multiply(load(null, k), r)
            store(row, u, y)
            store(columns, c, add(load(columns, c), y))
            signed = multiply_add(fill(room.signs[u // FLOATS]), y, signed)
        sign = fill(np.float32(1.0 - 2.0 * odd))
        store(features, (SIGNED * n_rows + h) * FLOATS, multiply(sign, signed))
        count, feature = n_half, DIFFERENCES
        while count > FLOATS:
            count //= 2
            difference = fill(np.float32(0.0))
            for u in range(0, count, FLOATS):
                low, high = load(row, u), load(row, u + count)
                difference = add(difference, subtract(low, high))
                store(row, u, add(low, high))
            store(features, (feature * n_rows + h) * FLOATS, difference)
            feature += 1
        store(features, h * FLOATS, load(row, 0))
        if (h + 1) % together == 0 or h + 1 == n_rows:
            square += total(norms)
            product += total(weighted)
            norms, weighted = fill(np.float32(0.0)), fill(np.float32(0.0))
    return np.sqrt(square), product


@jit
def _sum_over_rows(features, first, n_rows, n_hidden, lanes):
    """lanes[j] = sum_h h_j features[first + h], which are used up; of a spin that is +1 in all rows the plain sum."""
    count, j = n_rows, 0
    while 1 << j < n_rows:
        j += 1
    for last in range(j, n_hidden):
        store(lanes, last * FLOATS, fill(np.float32(0.0)))
    while count > 1:
        count //= 2
        j -= 1
        difference = fill(np.float32(0.0))
        for h in range(count):
            low, high = load(features, (first + h) * FLOATS), load(features, (first + h + count) * FLOATS)
            difference = add(difference, subtract(low, high))
            store(features, (first + h) * FLOATS, add(low, high))
        store(lanes, j * FLOATS, difference)
    while 1 << j < n_rows:
        j += 1
    for last in range(j, n_hidden):
        store(lanes, last * FLOATS, load(features, first * FLOATS))


@jit
def _gather(layers, shape, room):
    """sums = W' r from what :func:`_descend` has left in the room."""
    n_rows, n_columns, n_hidden = shape.n_rows, 2 * shape.n_half, layers.n_hidden
    sums, columns, features, lanes, places = room.sums, room.columns, room.features, room.lanes, room.places
    position = 0
    if layers.hidden:
        for h in range(n_rows):
            sums[h] = total(load(features, h * FLOATS))
        position = n_rows
    if layers.visible and shape.quotient:
        for v in range(n_columns // 2):
            sums[position + v] = columns[places[v]] + columns[places[n_columns - 1 - v]]
        position += n_columns // 2
    elif layers.visible:
        for v in range(n_columns):
            sums[position + v] = columns[places[v]]
        position += n_columns
    # visible spin 0 is the one that parity decides, 1 to 4 lie in the lanes, the others in the differences, the last one first
    for feature in range(DIFFERENCES + shape.n_visible - 5):
        _sum_over_rows(features, feature * n_rows, n_rows, n_hidden, lanes)
        for j in range(n_hidden):
            here = load(lanes, j * FLOATS)
            if feature == PLAIN:
                for bit in range(4):
                    sums[position + (bit + 1) * n_hidden + j] = total(multiply(load(room.patterns, bit * FLOATS), here))
            elif feature == SIGNED:
                sums[position + j] = total(multiply(load(room.patterns, 4 * FLOATS), here))
            else:
                sums[position + (shape.n_visible - 1 - (feature - DIFFERENCES)) * n_hidden + j] = total(here)


@jit
def _correct(layers, sums, answers):
    """answers = K sums; returns sums'answers."""
    kernel, stride = layers.kernel, layers.stride
    for block in range(0, stride, 4 * FLOATS):
        sum0, sum1, sum2, sum3 = fill(np.float32(0.0)), fill(np.float32(0.0)), fill(np.float32(0.0)), fill(np.float32(0.0))
        for k in range(layers.size):
            place, factor = k * stride + block, fill(sums[k])
            sum0 = multiply_add(load(kernel, place), factor, sum0)
            sum1 = multiply_add(load(kernel, place + FLOATS), factor, sum1)
            sum2 = multiply_add(load(kernel, place + 2 * FLOATS), factor, sum2)
            sum3 = multiply_add(load(kernel, place + 3 * FLOATS), factor, sum3)
        store(answers, block, sum0)
        store(answers, block + FLOATS, sum1)
        store(answers, block + 2 * FLOATS, sum2)
        store(answers, block + 3 * FLOATS, sum3)
    return dot(sums, answers)


@jit
def _deal_out(layers, shape, room):
    """From answers = c, columns over u and the slopes of every row, of which W c is made."""
    n_rows, n_columns, n_visible, n_hidden = shape.n_rows, 2 * shape.n_half, shape.n_visible, layers.n_hidden
    answers, columns, slopes, lanes, places = room.answers, room.columns, room.slopes, room.lanes, room.places
    position = n_rows if layers.hidden else 0
    columns[:] = 0.0
    if layers.visible and shape.quotient:
        for v in range(n_columns // 2):
            columns[places[v]] = answers[position + v]
            columns[places[n_columns - 1 - v]] = answers[position + v]
        position += n_columns // 2
    elif layers.visible:
        for v in range(n_columns):
            columns[places[v]] = answers[position + v]
        position += n_columns
    lanes[:] = 0.0
    for i in range(n_visible):
        for j in range(n_hidden):
            lanes[j * FLOATS + i] = answers[position + i * n_hidden + j]
    whole = load(lanes, 0)
    for j in range(1, n_hidden):
        whole = add(whole, load(lanes, j * FLOATS))
    store(slopes, 0, whole)
    half, j = 1, 0
    while half < n_rows:
        twice = add(load(lanes, j * FLOATS), load(lanes, j * FLOATS))
        for h in range(half):
            store(slopes, (half + h) * FLOATS, subtract(load(slopes, h * FLOATS), twice))
        half, j = 2 * half, j + 1


@jit
def _turn(layers, shape, length, ratio, inverse, null, residual, x, step, room):
    """x += length * step, then step = ratio * step + M^-1 residual; returns |x|."""
    n_rows, n_half, stride, n_visible = shape.n_rows, shape.n_half, shape.stride, shape.n_visible
    columns, slopes, high = room.columns, room.slopes, room.row
    square, together = 0.0, max(SUMMED // n_half, 1)
    forward, ratios = fill(np.float32(length)), fill(np.float32(ratio))
    sizes = fill(np.float32(0.0))
    for h in range(n_rows):
        odd, slope = _parity(h), h * FLOATS
        level = fill(room.answers[h] if layers.hidden else np.float32(0.0))
        for bit in range(4):
            level = multiply_add(fill(slopes[slope + bit + 1]), load(room.patterns, bit * FLOATS), level)
        decided = multiply(fill(slopes[slope] * np.float32(1.0 - 2.0 * odd)), load(room.patterns, 4 * FLOATS))
        high[0] = np.float32(0.0)
        for i in range(5, n_visible):
            half, here = 1 << (i - 5), slopes[slope + i]
            for q in range(half):
                high[half + q] = high[q] - here
                high[q] += here
        for u in range(0, n_half, FLOATS):
            k, q = h * stride + u, u // FLOATS
            last = load(step, k)
            current = multiply_add(forward, last, load(x, k))
            store(x, k, current)
            sizes = multiply_add(current, current, sizes)
            smooth = add(add(level, fill(high[q])), multiply_add(fill(room.signs[q]), decided, load(columns, odd * n_half + u)))
            local = multiply_add(load(null, k), smooth, multiply(load(inverse, k), load(residual, k)))
            store(step, k, multiply_add(ratios, last, local))
        if (h + 1) % together == 0 or h + 1 == n_rows:
            square += total(sizes)
            sizes = fill(np.float32(0.0))
    return np.sqrt(square)


@inlined
def _precondition(classes, layers, room):
    """Deals M^-1 residual out in the room of the last :func:`_descend`; returns residual'W K W'residual."""
    _gather(layers, classes.shape, room)
    product = _correct(layers, room.sums, room.answers)
    _deal_out(layers, classes.shape, room)
    return product


@jit
def _iterate(classes, layers, residual, tolerance, floor, limit, before, step, image, odd, x, room):
    """:func:`thermokernels.solvers.red_black._iterate` with this preconditioner."""
    inverse, null, shape = classes.inverse[0], classes.null[0], classes.shape
    x[:] = 0.0
    norm, product = _descend(shape, 0.0, image, inverse, null, residual, room)
    length, size, iteration = 0.0, 0.0, 0
    while iteration < limit and norm > tolerance and norm > floor * size:
        product += _precondition(classes, layers, room)
        size = _turn(layers, shape, length, product / before if before > 0.0 else 0.0, inverse, null, residual, x, step, room)
        length = product / _schur_product(classes, step, odd, image)
        before = product
        norm, product = _descend(shape, length, image, inverse, null, residual, room)
        iteration += 1
        if iteration % PROJECT_EVERY == 0:
            _project(null, residual)
            norm, product = _descend(shape, 0.0, image, inverse, null, residual, room)
    add_multiple(length, step, x)
    return iteration, norm, size, before
