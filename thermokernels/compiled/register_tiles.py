"""Tiles of four rows and a line or two of columns in registers: the words of kernels that exchange rows and columns of a matrix.

A flip of a spin exchanges rows or columns whose numbers differ in one bit. Inside a tile that is a reordering of registers and costs no
load; what rows have in common is loaded once for all of them. A tile is one long vector to LLVM, which splits it into
eight registers of the processor: of 32 with AVX-512, of 16 elsewhere, where tiles twice as wide would take them all. Those of float32 have
twice as many columns as those of float64: ``columns(array)``. ``multiply``, ``multiply_add`` and ``add`` of
:mod:`thermokernels.compiled.simd_states` take tiles too.

With ``NUMBA_DISABLE_JIT=1`` a tile is a NumPy array of shape (4, columns): the plain twin of every kernel built on these words.
"""

from __future__ import annotations

import llvmlite.binding
import numba
import numpy as np

from thermokernels.compiled.simd_states import DOUBLES, lanes

ROWS = 4

# Columns of a tile of float64.
COLUMNS = 2 * DOUBLES if llvmlite.binding.get_host_cpu_features().get("avx512f") else DOUBLES

# Flips of rows and of columns that stay inside a tile.
ROW_FLIPS, COLUMN_FLIPS = ROWS.bit_length() - 1, COLUMNS.bit_length() - 1

# A matrix is gone through in blocks of so many rows and columns, 128 KiB that stay in the second-level cache for the flips among them.
# Rates of hidden spins are per column: those of few columns stay in the first level. Flips from these on, counted from 0, leave the block.
BLOCK_ROWS, PANEL_COLUMNS = 512, 32
FAR_ROW_FLIP, FAR_COLUMN_FLIP = BLOCK_ROWS.bit_length() - 1, PANEL_COLUMNS.bit_length() - 1

# Matrices of so many entries, 4 MiB, are far away: what lies outside of the block is asked for two tiles ahead, since the processor does
# not find a pattern in it by itself.
EXPECTING = 2**19
AHEAD = 2 * COLUMNS

# Rows of this length, 1 KiB, and more are padded by a cache line, or those that meet in a flip would fall on the same lines of the cache.
PADDED_COLUMNS = 128

if numba.config.DISABLE_JIT:

    def columns(array):
        return COLUMNS // DOUBLES * lanes(array)

    def load_tile(array, index, stride):
        return np.array([array[index + row * stride : index + row * stride + columns(array)] for row in range(ROWS)])

    def store_tile(array, index, stride, tile):
        for row in range(ROWS):
            array[index + row * stride : index + row * stride + columns(array)] = tile[row]

    def expect_tile(array, index, stride):
        pass

    def spread_rows(array, index):
        return np.repeat(array[index : index + ROWS, None], columns(array), axis=1)

    def checkered_rows(array, even, odd):
        return np.array([array[start : start + columns(array)] for start in (even, odd, odd, even)])

    def _swapped(tile, flip):
        return tile[:, np.arange(tile.shape[1]) ^ (flip % tile.shape[1])]

    def swap_columns1(tile):
        return _swapped(tile, 1)

    def swap_columns2(tile):
        return _swapped(tile, 2)

    def swap_columns4(tile):
        return _swapped(tile, 4)

    def swap_columns8(tile):
        return _swapped(tile, 8)

    def swap_columns16(tile):
        return _swapped(tile, 16)

    def swap_rows1(tile):
        return tile[[1, 0, 3, 2]]

    def swap_rows2(tile):
        return tile[[2, 3, 0, 1]]

    def reverse_tile(tile):
        return tile[::-1, ::-1].copy()

    def fold(tile):
        half = tile.shape[1] // 2
        rows = tile[:, :half] + tile[:, half:] if COLUMNS > DOUBLES else tile
        return (rows[0] + rows[2]) + (rows[1] + rows[3])

else:
    from llvmlite import ir
    from numba import types
    from numba.core.extending import intrinsic, models, register_model

    from thermokernels.compiled.simd_states import VECTORS, VectorType, constant_of, permutation

    class TileType(VectorType):
        """ROWS rows of ``columns`` numbers in registers, each of as many vectors of the type ``vector``."""

        def __init__(self, vector):
            self.vector, self.columns = vector, COLUMNS // DOUBLES * vector.size
            self.llvm_row = ir.VectorType(vector.llvm.element, self.columns)
            super().__init__(f"Tile{self.columns}", vector.element, ROWS * self.columns)

    @register_model(TileType)
    class TileModel(models.PrimitiveModel):
        """A tile is passed as one LLVM value."""

        def __init__(self, manager, numba_type):
            super().__init__(manager, numba_type, numba_type.llvm)

    TILES = {element: TileType(vector) for element, vector in VECTORS.items()}

    def _shuffle(builder, left, right, order):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), [int(k) for k in order])
        return builder.shuffle_vector(left, right, mask)

    def _part(builder, tile, first, size):
        return _shuffle(builder, tile, ir.Constant(tile.type, ir.Undefined), range(first, first + size))

    def _join(builder, rows):
        size = rows[0].type.count
        upper, lower = (_shuffle(builder, rows[k], rows[k + 1], range(2 * size)) for k in (0, 2))
        return _shuffle(builder, upper, lower, range(4 * size))

    def _data(context, builder, signature, array):
        return context.make_array(signature.args[0])(context, builder, array).data

    def _row_pointer(builder, data, index, kind):
        return builder.bitcast(builder.gep(data, [index]), kind.llvm_row.as_pointer())

    @intrinsic
    def columns(typing_context, array):
        """How many columns a tile of the array has."""
        return constant_of(typing_context, array, TILES[array.dtype].columns)

    @intrinsic
    def load_tile(typing_context, array, index, stride):
        """Row r is array[index + r stride : index + r stride + columns] of a contiguous one-dimensional array, unchecked."""
        kind = TILES[array.dtype]

        def generate(context, builder, signature, arguments):
            data, position, rows = _data(context, builder, signature, arguments[0]), arguments[1], []
            for _ in range(ROWS):
                rows.append(builder.load(_row_pointer(builder, data, position, kind), align=kind.element.bitwidth // 8))
                position = builder.add(position, arguments[2])
            return _join(builder, rows)

        return kind(array, types.intp, types.intp), generate

    @intrinsic
    def store_tile(typing_context, array, index, stride, tile):
        """The inverse of load_tile, unchecked."""
        kind = TILES[array.dtype]

        def generate(context, builder, signature, arguments):
            data, position = _data(context, builder, signature, arguments[0]), arguments[1]
            for row in range(ROWS):
                part, pointer = _part(builder, arguments[3], row * kind.columns, kind.columns), _row_pointer(builder, data, position, kind)
                builder.store(part, pointer, align=kind.element.bitwidth // 8)
                position = builder.add(position, arguments[2])
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, kind), generate

    @intrinsic
    def expect_tile(typing_context, array, index, stride):
        """Have the tile that load_tile is going to read brought into the first-level cache; any index will do."""
        kind = TILES[array.dtype]

        def generate(context, builder, signature, arguments):
            address, hint = ir.IntType(8).as_pointer(), ir.IntType(32)
            prefetch = builder.module.declare_intrinsic(
                "llvm.prefetch", (address,), ir.FunctionType(ir.VoidType(), [address, hint, hint, hint])
            )
            data, position = _data(context, builder, signature, arguments[0]), arguments[1]
            for _ in range(ROWS):
                for column in range(0, kind.columns, kind.vector.size):  # a cache line each
                    line = builder.gep(data, [builder.add(position, ir.Constant(position.type, column))])
                    reading, often, as_data = ir.Constant(hint, 0), ir.Constant(hint, 3), ir.Constant(hint, 1)
                    builder.call(prefetch, [builder.bitcast(line, address), reading, often, as_data])
                position = builder.add(position, arguments[2])
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp), generate

    @intrinsic
    def spread_rows(typing_context, array, index):
        """Row r is array[index + r] in every column."""
        kind = TILES[array.dtype]

        def generate(context, builder, signature, arguments):
            data, undefined, rows = _data(context, builder, signature, arguments[0]), ir.Constant(kind.llvm_row, ir.Undefined), []
            for row in range(ROWS):
                scalar = builder.load(builder.gep(data, [builder.add(arguments[1], ir.Constant(arguments[1].type, row))]))
                first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
                rows.append(_shuffle(builder, first, undefined, [0] * kind.columns))
            return _join(builder, rows)

        return kind(array, types.intp), generate

    @intrinsic
    def checkered_rows(typing_context, array, even, odd):
        """Rows 0 and 3 are array[even : even + columns], rows 1 and 2, whose numbers have odd parity, array[odd : odd + columns]."""
        kind = TILES[array.dtype]

        def generate(context, builder, signature, arguments):
            data, align = _data(context, builder, signature, arguments[0]), kind.element.bitwidth // 8
            even, odd = (builder.load(_row_pointer(builder, data, index, kind), align=align) for index in arguments[1:])
            return _join(builder, [even, odd, odd, even])

        return kind(array, types.intp, types.intp), generate

    def _exchange_columns(flip):
        return lambda tile: np.arange(tile.size) ^ (flip % tile.columns)

    swap_columns1 = permutation(_exchange_columns(1), "Column k comes from k ^ 1.")
    swap_columns2 = permutation(_exchange_columns(2), "Column k comes from k ^ 2.")
    swap_columns4 = permutation(_exchange_columns(4), "Column k comes from k ^ 4.")
    swap_columns8 = permutation(_exchange_columns(8), "Column k comes from k ^ 8; for tiles of sixteen columns and more.")
    swap_columns16 = permutation(_exchange_columns(16), "Column k comes from k ^ 16; for tiles of 32 columns only.")
    swap_rows1 = permutation(lambda tile: np.arange(tile.size) ^ tile.columns, "Row r comes from r ^ 1.")
    swap_rows2 = permutation(lambda tile: np.arange(tile.size) ^ 2 * tile.columns, "Row r comes from r ^ 2.")
    reverse_tile = permutation(lambda tile: np.arange(tile.size)[::-1], "Entry (r, k) comes from (ROWS - 1 - r, columns - 1 - k).")

    @intrinsic
    def fold(typing_context, tile):
        """A vector: the sum of the vectors that the tile is made of, in a fixed order."""
        size, columns = tile.vector.size, tile.columns

        def generate(context, builder, signature, arguments):
            rows = [_part(builder, arguments[0], row * columns, size) for row in range(ROWS)]
            if columns > size:
                rows = [builder.fadd(rows[row], _part(builder, arguments[0], row * columns + size, size)) for row in range(ROWS)]
            return builder.fadd(builder.fadd(rows[0], rows[2]), builder.fadd(rows[1], rows[3]))

        return tile.vector(tile), generate
