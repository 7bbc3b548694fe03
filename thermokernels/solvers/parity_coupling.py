"""Products with C, which couples the two parity classes of a chain, and with the Schur complement on the even one.

Tiles of several rows and columns are worked on in registers, where near flips are exchanges; what is further away is loaded.
"""

from __future__ import annotations

from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.register_tiles import (
    AHEAD,
    BLOCK_ROWS,
    EXPECTING,
    FAR_COLUMN_FLIP,
    FAR_ROW_FLIP,
    PANEL_COLUMNS,
    ROW_FLIPS,
    ROWS,
    checkered_rows,
    columns,
    expect_tile,
    fold,
    load_tile,
    reverse_tile,
    spread_rows,
    store_tile,
    swap_columns1,
    swap_columns2,
    swap_columns4,
    swap_columns8,
    swap_columns16,
    swap_rows1,
    swap_rows2,
)
from thermokernels.compiled.simd_states import (
    DOUBLES,
    add,
    fill,
    lanes,
    load,
    multiply,
    multiply_add,
    reverse,
    store,
    subtract,
    swap1,
    swap2,
    swap4,
    swap8,
    total,
)
from thermokernels.solvers.parity_classes import EVEN, ODD, _parity

# The two kernels below are one function each: a call inside their loops would count references to arrays and empty the registers.


@jit
def _couple(visible_rates, hidden_rates, shape, parity, x, scale, diagonal, step, out):
    """out = scale * (C x), from the other class into class ``parity``; where step is not empty diagonal * step - that, and step'out.

    An empty scale is one.
    """
    n_rows, n_half, stride, n_visible, n_row_flips, quotient = shape
    n_columns, width = columns(x), lanes(x) // DOUBLES  # a tile's, and how many entries take the room of a float64
    if n_rows < ROWS or n_half < n_columns:
        return _couple_narrow(visible_rates, hidden_rates, shape, parity, x, scale, diagonal, step, out)
    n_entries = (n_row_flips + quotient) * n_half
    block_rows, panel_columns = min(BLOCK_ROWS, n_rows), min(PANEL_COLUMNS * width, n_half)
    expecting = n_rows * n_half >= EXPECTING * width
    near_flips = 3 + (n_columns > 8) + (n_columns > 16)
    whole = 0.0
    for number in range(n_rows // block_rows * (n_half // panel_columns)):
        first_row = number // (n_half // panel_columns) * block_rows
        first_column = number % (n_half // panel_columns) * panel_columns
        products = fill(x.dtype.type(0.0))  # of a block: longer sums would cost digits of float32
        for h in range(first_row, first_row + block_rows, ROWS):
            difference = _parity(h) ^ parity
            for u in range(first_column, first_column + panel_columns, n_columns):
                if expecting:
                    g, w = h, u + AHEAD * width
                    if w >= first_column + panel_columns:
                        g, w = h + ROWS, w - panel_columns
                    expect_tile(out, g * stride + w, stride)
                    if scale.size > 0:
                        expect_tile(scale, g * stride + w, stride)
                    if step.size > 0:
                        expect_tile(step, g * stride + w, stride)
                        expect_tile(diagonal, g * stride + w, stride)
                    for i in range(FAR_COLUMN_FLIP + width, n_visible):
                        expect_tile(x, g * stride + (w ^ (1 << (i - 1))), stride)
                    for j in range(FAR_ROW_FLIP, n_row_flips):
                        expect_tile(x, (g ^ (1 << j)) * stride + w, stride)
                    if quotient:
                        expect_tile(x, (n_rows - ROWS - g) * stride + n_half - n_columns - w, stride)
                # Flips inside the tile are exchanges of registers; rates of hidden spins are shared by rows of one parity.
                k = h * stride + u
                even, odd = difference * n_entries + u, (1 - difference) * n_entries + u
                here = load_tile(x, k, stride)
                incoming = multiply(spread_rows(visible_rates, h), here)
                incoming = multiply_add(spread_rows(visible_rates, n_rows + h), swap_columns1(here), incoming)
                incoming = multiply_add(spread_rows(visible_rates, 2 * n_rows + h), swap_columns2(here), incoming)
                incoming = multiply_add(spread_rows(visible_rates, 3 * n_rows + h), swap_columns4(here), incoming)
                if n_columns > 8:
                    incoming = multiply_add(spread_rows(visible_rates, 4 * n_rows + h), swap_columns8(here), incoming)
                if n_columns > 16:
                    incoming = multiply_add(spread_rows(visible_rates, 5 * n_rows + h), swap_columns16(here), incoming)
                incoming = multiply_add(checkered_rows(hidden_rates, even, odd), swap_rows1(here), incoming)
                incoming = multiply_add(checkered_rows(hidden_rates, even + n_half, odd + n_half), swap_rows2(here), incoming)
                for i in range(near_flips + 1, n_visible):
                    there = load_tile(x, h * stride + (u ^ (1 << (i - 1))), stride)
                    incoming = multiply_add(spread_rows(visible_rates, i * n_rows + h), there, incoming)
                for j in range(ROW_FLIPS, n_row_flips):
                    there = load_tile(x, (h ^ (1 << j)) * stride + u, stride)
                    incoming = multiply_add(checkered_rows(hidden_rates, even + j * n_half, odd + j * n_half), there, incoming)
                if quotient:
                    across = reverse_tile(load_tile(x, (n_rows - ROWS - h) * stride + n_half - n_columns - u, stride))
                    last = n_row_flips * n_half
                    incoming = multiply_add(checkered_rows(hidden_rates, even + last, odd + last), across, incoming)
                if scale.size > 0:
                    incoming = multiply(load_tile(scale, k, stride), incoming)
                if step.size > 0:
                    here = load_tile(step, k, stride)
                    incoming = subtract(multiply(load_tile(diagonal, k, stride), here), incoming)
                    products = add(products, fold(multiply(here, incoming)))
                store_tile(out, k, stride, incoming)
        whole += total(products)
    return whole


@jit
def _couple_narrow(visible_rates, hidden_rates, shape, parity, x, scale, diagonal, step, out):
    """The plain form of _couple, a vector at a time: for classes smaller than a tile."""
    n_rows, n_half, stride, n_visible, n_row_flips, quotient = shape
    n_lanes = lanes(x)
    near_flips = 3 + (n_lanes > 8)
    products = fill(x.dtype.type(0.0))
    for h in range(n_rows):
        rates = (_parity(h) ^ parity) * (n_row_flips + quotient) * n_half
        for u in range(0, n_half, n_lanes):
            k = h * stride + u
            here = load(x, k)
            incoming = multiply(fill(visible_rates[h]), here)
            incoming = multiply_add(fill(visible_rates[n_rows + h]), swap1(here), incoming)
            incoming = multiply_add(fill(visible_rates[2 * n_rows + h]), swap2(here), incoming)
            incoming = multiply_add(fill(visible_rates[3 * n_rows + h]), swap4(here), incoming)
            if n_lanes > 8:
                incoming = multiply_add(fill(visible_rates[4 * n_rows + h]), swap8(here), incoming)
            for i in range(near_flips + 1, n_visible):
                incoming = multiply_add(fill(visible_rates[i * n_rows + h]), load(x, h * stride + (u ^ (1 << (i - 1)))), incoming)
            for j in range(n_row_flips):
                incoming = multiply_add(load(hidden_rates, rates + j * n_half + u), load(x, (h ^ (1 << j)) * stride + u), incoming)
            if quotient:
                across = reverse(load(x, (n_rows - 1 - h) * stride + n_half - n_lanes - u))
                incoming = multiply_add(load(hidden_rates, rates + n_row_flips * n_half + u), across, incoming)
            if scale.size > 0:
                incoming = multiply(load(scale, k), incoming)
            if step.size > 0:
                here = load(step, k)
                incoming = subtract(multiply(load(diagonal, k), here), incoming)
                products = multiply_add(here, incoming, products)
            store(out, k, incoming)
    return total(products)


@inlined
def _from_other(classes, parity, x, scale, out):
    """out = scale * (C x): from the other class into class ``parity``."""
    nothing = x[:0]
    _couple(classes.visible_rates, classes.hidden_rates, classes.shape, parity, x, scale, nothing, nothing, out)


@inlined
def _schur_product(classes, x, odd, out):
    """out = (D_e - C D_o^-1 C') x for an even-class x that vanishes on the target; returns x'out. ``odd`` is work space."""
    _from_other(classes, ODD, x, classes.inverse[1], odd)
    diagonal, free = classes.diagonal[0], classes.free[0]
    return _couple(classes.visible_rates, classes.hidden_rates, classes.shape, EVEN, odd, free, diagonal, x, out)
