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

# Columns that are taken at once.
BLOCK = 4 * FLOATS

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


@inlined
def _lower(backward, image, residual, inverse, null, k, norms, weighted):
    """residual += backward * image for the vector at k; psi r, and the sums of r^2 and of r^2 / D that it is added to."""
    r = multiply_add(backward, load(image, k), load(residual, k))
    store(residual, k, r)
    return multiply(load(null, k), r), multiply_add(r, r, norms), multiply_add(multiply(r, load(inverse, k)), r, weighted)


@jit
def _descend(shape, visible, length, image, inverse, null, residual, room):
    """residual -= length * image; returns |residual| and residual' inverse residual, and leaves sums of psi * residual in the room.

    Sums over columns are left where there are functions of v (``visible``). Four vectors of a row are taken at once, in which the spins of
    bits 4 and 5 of u have their four values.
    """
    n_rows, n_half, stride = shape.n_rows, shape.n_half, shape.stride
    row, columns, features = room.row, room.columns, room.features
    square, product, together = 0.0, 0.0, max(SUMMED // n_half, 1)
    last, n_features = DIFFERENCES + shape.n_visible - 6, DIFFERENCES + shape.n_visible - 5
    backward = fill(np.float32(-length))
    norms, weighted = fill(np.float32(0.0)), fill(np.float32(0.0))
    columns[:] = 0.0
    for h in range(n_rows):
        odd = _parity(h)
        plain, signed = fill(np.float32(0.0)), fill(np.float32(0.0))
        of_bit4, of_bit5 = fill(np.float32(0.0)), fill(np.float32(0.0))
        for u in range(0, n_half, BLOCK):
            k, c = h * stride + u, odd * n_half + u
            y0, norms, weighted = _lower(backward, image, residual, inverse, null, k, norms, weighted)
            y1, norms, weighted = _lower(backward, image, residual, inverse, null, k + FLOATS, norms, weighted)
            y2, norms, weighted = _lower(backward, image, residual, inverse, null, k + 2 * FLOATS, norms, weighted)
            y3, norms, weighted = _lower(backward, image, residual, inverse, null, k + 3 * FLOATS, norms, weighted)
            if visible:
                store(columns, c, add(load(columns, c), y0))
                store(columns, c + FLOATS, add(load(columns, c + FLOATS), y1))
                store(columns, c + 2 * FLOATS, add(load(columns, c + 2 * FLOATS), y2))
                store(columns, c + 3 * FLOATS, add(load(columns, c + 3 * FLOATS), y3))
            sum01, sum23, difference01, difference23 = add(y0, y1), add(y2, y3), subtract(y0, y1), subtract(y2, y3)
            whole = add(sum01, sum23)
            plain = add(plain, whole)
            signed = multiply_add(fill(room.signs[u // FLOATS]), subtract(difference01, difference23), signed)
            of_bit4 = add(of_bit4, add(difference01, difference23))
            of_bit5 = add(of_bit5, subtract(sum01, sum23))
            store(row, u // 4, whole)
        store(features, h * FLOATS, plain)
        store(features, (SIGNED * n_rows + h) * FLOATS, multiply(fill(np.float32(1.0 - 2.0 * odd)), signed))
        store(features, (last * n_rows + h) * FLOATS, of_bit4)
        store(features, ((last - 1) * n_rows + h) * FLOATS, of_bit5)
        count = n_half // 4
        for feature in range(DIFFERENCES, n_features - 2):
            count //= 2
            difference = fill(np.float32(0.0))
            for u in range(0, count, FLOATS):
                low, high = load(row, u), load(row, u + count)
                difference = add(difference, subtract(low, high))
                store(row, u, add(low, high))
            store(features, (feature * n_rows + h) * FLOATS, difference)
        if (h + 1) % together == 0 or h + 1 == n_rows:
            square += total(norms)
            product += total(weighted)
            norms, weighted = fill(np.float32(0.0)), fill(np.float32(0.0))
    return np.sqrt(square), product


@jit
def _sum_over_rows(features, first, n_rows, n_hidden, lanes):
    """lanes[j] = sum_h h_j features[first + h], which are used up; of a spin that is +1 in all rows the plain sum. Two spins a pass."""
    count, j = n_rows, 0
    while 1 << j < n_rows:
        j += 1
    rows_spins = j
    while count > 2:
        count //= 4
        j -= 2
        upper, lower = fill(np.float32(0.0)), fill(np.float32(0.0))
        for h in range(count):
            k, further = (first + h) * FLOATS, count * FLOATS
            row0, row1, row2, row3 = (
                load(features, k),
                load(features, k + further),
                load(features, k + 2 * further),
                load(features, k + 3 * further),
            )
            sum01, sum23 = add(row0, row1), add(row2, row3)
            upper = add(upper, subtract(sum01, sum23))
            lower = add(lower, add(subtract(row0, row1), subtract(row2, row3)))
            store(features, k, add(sum01, sum23))
        store(lanes, (j + 1) * FLOATS, upper)
        store(lanes, j * FLOATS, lower)
    whole = load(features, first * FLOATS)
    if count == 2:
        other = load(features, (first + 1) * FLOATS)
        store(lanes, 0, subtract(whole, other))
        whole = add(whole, other)
    for fixed in range(rows_spins, n_hidden):
        store(lanes, fixed * FLOATS, whole)


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
    """answers = K sums; returns sums'answers. Of K, which is symmetric, what lies right of the diagonal's squares of 16 is read once."""
    kernel, stride = layers.kernel, layers.stride
    answers[:] = np.float32(0.0)
    for k in range(0, layers.size, 4):
        s0, s1, s2, s3 = fill(sums[k]), fill(sums[k + 1]), fill(sums[k + 2]), fill(sums[k + 3])
        square, row0 = k // FLOATS * FLOATS, k * stride
        row1, row2, row3 = row0 + stride, row0 + 2 * stride, row0 + 3 * stride
        here = load(sums, square)
        sum0, sum1 = multiply(load(kernel, row0 + square), here), multiply(load(kernel, row1 + square), here)
        sum2, sum3 = multiply(load(kernel, row2 + square), here), multiply(load(kernel, row3 + square), here)
        for c in range(square + FLOATS, stride, FLOATS):
            here, there = load(sums, c), load(answers, c)
            of0, of1, of2, of3 = load(kernel, row0 + c), load(kernel, row1 + c), load(kernel, row2 + c), load(kernel, row3 + c)
            sum0, sum1 = multiply_add(of0, here, sum0), multiply_add(of1, here, sum1)
            sum2, sum3 = multiply_add(of2, here, sum2), multiply_add(of3, here, sum3)
            there = multiply_add(of1, s1, multiply_add(of0, s0, there))
            store(answers, c, multiply_add(of3, s3, multiply_add(of2, s2, there)))
        answers[k] += total(sum0)
        answers[k + 1] += total(sum1)
        answers[k + 2] += total(sum2)
        answers[k + 3] += total(sum3)
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


@inlined
def _raise(forward, ratios, smooth, inverse, null, residual, x, step, k, sizes):
    """x += forward * step, then step = ratios * step + residual / D + psi * smooth for the vector at k; the sum of x^2 it is added to."""
    last = load(step, k)
    current = multiply_add(forward, last, load(x, k))
    store(x, k, current)
    local = multiply_add(load(null, k), smooth, multiply(load(inverse, k), load(residual, k)))
    store(step, k, multiply_add(ratios, last, local))
    return multiply_add(current, current, sizes)


@jit
def _turn(layers, shape, length, ratio, inverse, null, residual, x, step, room):
    """x += length * step, then step = ratio * step + M^-1 residual; returns |x|. Four vectors at once, as :func:`_descend`."""
    n_rows, n_half, stride, n_visible = shape.n_rows, shape.n_half, shape.stride, shape.n_visible
    columns, slopes, high, visible = room.columns, room.slopes, room.row, layers.visible
    square, together = 0.0, max(SUMMED // n_half, 1)
    forward, ratios = fill(np.float32(length)), fill(np.float32(ratio))
    sizes = fill(np.float32(0.0))
    for h in range(n_rows):
        odd, slope = _parity(h), h * FLOATS
        level = fill(room.answers[h] if layers.hidden else np.float32(0.0))
        for bit in range(4):
            level = multiply_add(fill(slopes[slope + bit + 1]), load(room.patterns, bit * FLOATS), level)
        decided = multiply(fill(slopes[slope] * np.float32(1.0 - 2.0 * odd)), load(room.patterns, 4 * FLOATS))
        of_bit4, of_bit5 = slopes[slope + 5], slopes[slope + 6]
        level0, level1 = add(level, fill(of_bit5 + of_bit4)), add(level, fill(of_bit5 - of_bit4))
        level2, level3 = subtract(level, fill(of_bit5 - of_bit4)), subtract(level, fill(of_bit5 + of_bit4))
        high[0] = np.float32(0.0)
        for i in range(7, n_visible):
            half, here = 1 << (i - 7), slopes[slope + i]
            for q in range(half):
                high[half + q] = high[q] - here
                high[q] += here
        for u in range(0, n_half, BLOCK):
            k, c = h * stride + u, odd * n_half + u
            of_block, parity = fill(high[u // BLOCK]), multiply(fill(room.signs[u // FLOATS]), decided)
            same, other = add(of_block, parity), subtract(of_block, parity)
            smooth0, smooth1, smooth2, smooth3 = add(level0, same), add(level1, other), add(level2, other), add(level3, same)
            if visible:
                smooth0, smooth1 = add(smooth0, load(columns, c)), add(smooth1, load(columns, c + FLOATS))
                smooth2, smooth3 = add(smooth2, load(columns, c + 2 * FLOATS)), add(smooth3, load(columns, c + 3 * FLOATS))
            sizes = _raise(forward, ratios, smooth0, inverse, null, residual, x, step, k, sizes)
            sizes = _raise(forward, ratios, smooth1, inverse, null, residual, x, step, k + FLOATS, sizes)
            sizes = _raise(forward, ratios, smooth2, inverse, null, residual, x, step, k + 2 * FLOATS, sizes)
            sizes = _raise(forward, ratios, smooth3, inverse, null, residual, x, step, k + 3 * FLOATS, sizes)
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
    norm, product = _descend(shape, layers.visible, 0.0, image, inverse, null, residual, room)
    length, size, iteration = 0.0, 0.0, 0
    while iteration < limit and norm > tolerance and norm > floor * size:
        product += _precondition(classes, layers, room)
        size = _turn(layers, shape, length, product / before if before > 0.0 else 0.0, inverse, null, residual, x, step, room)
        length = product / _schur_product(classes, step, odd, image)
        before = product
        norm, product = _descend(shape, layers.visible, length, image, inverse, null, residual, room)
        iteration += 1
        if iteration % PROJECT_EVERY == 0:
            _project(null, residual)
            norm, product = _descend(shape, layers.visible, 0.0, image, inverse, null, residual, room)
    add_multiple(length, step, x)
    return iteration, norm, size, before
