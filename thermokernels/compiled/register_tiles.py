"""Tiles of four rows and sixteen or eight columns in registers: the words of kernels that exchange rows and columns of a matrix.

A flip of a spin exchanges rows or columns whose numbers differ in one bit. Inside a tile that is a reordering of registers and costs no
load; what rows have in common is loaded once for all of them. A tile is one long vector to LLVM, which splits it into
eight registers of the processor: of 32 with AVX-512, of 16 elsewhere, where tiles twice as wide would take them all. ``multiply``,
``multiply_add`` and ``add`` of :mod:`thermokernels.compiled.simd_float64` take tiles too.

With ``NUMBA_DISABLE_JIT=1`` a tile is a NumPy array of shape (4, COLUMNS): the plain twin of every kernel built on these words.
"""

from __future__ import annotations

import llvmlite.binding
import numba
import numpy as np

from thermokernels.compiled.simd_float64 import DOUBLES

ROWS = 4
COLUMNS = 2 * DOUBLES if llvmlite.binding.get_host_cpu_features().get("avx512f") else DOUBLES

# Flips of rows and of columns that stay inside a tile.
ROW_FLIPS, COLUMN_FLIPS = ROWS.bit_length() - 1, COLUMNS.bit_length() - 1

# A matrix is gone through in blocks of so many rows and columns, 256 KiB that stay in the second-level cache for the flips among them.
# Flips from these on, counted from 0, leave the block.
BLOCK_ROWS, PANEL_COLUMNS = 128, 256
FAR_ROW_FLIP, FAR_COLUMN_FLIP = BLOCK_ROWS.bit_length() - 1, PANEL_COLUMNS.bit_length() - 1

# Matrices of so many entries, 4 MiB, are far away: what lies outside of the block is asked for two tiles ahead, since the processor does
# not find a pattern in it by itself.
EXPECTING = 2**19
AHEAD = 2 * COLUMNS

# Rows of this length, 1 KiB, and more are padded by a cache line, or those that meet in a flip would fall on the same lines of the cache.
PADDED_COLUMNS = 128

if numba.config.DISABLE_JIT:

    def load_tile(array, index, stride):
        return np.array([array[index + row * stride : index + row * stride + COLUMNS] for row in range(ROWS)])

    def store_tile(array, index, stride, tile):
        for row in range(ROWS):
            array[index + row * stride : index + row * stride + COLUMNS] = tile[row]

    def expect_tile(array, index, stride):
        pass

    def spread_rows(array, index):
        return np.repeat(array[index : index + ROWS, None], COLUMNS, axis=1)

    def checkered_rows(array, even, odd):
        return np.array([array[start : start + COLUMNS] for start in (even, odd, odd, even)])

    def swap_columns1(tile):
        return tile[:, np.arange(COLUMNS) ^ 1]

    def swap_columns2(tile):
        return tile[:, np.arange(COLUMNS) ^ 2]

    def swap_columns4(tile):
        return tile[:, np.arange(COLUMNS) ^ 4]

    def swap_columns8(tile):
        return tile[:, np.arange(COLUMNS) ^ 8]

    def swap_rows1(tile):
        return tile[[1, 0, 3, 2]]

    def swap_rows2(tile):
        return tile[[2, 3, 0, 1]]

    def reverse_tile(tile):
        return tile[::-1, ::-1].copy()

    def fold(tile):
        rows = tile[:, :DOUBLES] + tile[:, DOUBLES:] if COLUMNS > DOUBLES else tile
        return (rows[0] + rows[2]) + (rows[1] + rows[3])

else:
    from llvmlite import ir
    from numba import types
    from numba.core.extending import intrinsic, models, register_model

    from thermokernels.compiled.simd_float64 import VECTOR, permutation

    class TileType(types.Type):
        """ROWS * COLUMNS float64 in registers."""

        def __init__(self):
            super().__init__(name="thermokernels.Tile")

    TILE = TileType()
    LLVM_ROW = ir.VectorType(ir.DoubleType(), COLUMNS)
    LLVM_TILE = ir.VectorType(ir.DoubleType(), ROWS * COLUMNS)
    ENTRIES = np.arange(ROWS * COLUMNS)

    @register_model(TileType)
    class TileModel(models.PrimitiveModel):
        """A tile is passed as one LLVM value."""

        def __init__(self, manager, numba_type):
            super().__init__(manager, numba_type, LLVM_TILE)

    def _shuffle(builder, left, right, order):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), [int(k) for k in order])
        return builder.shuffle_vector(left, right, mask)

    def _part(builder, tile, first, size):
        return _shuffle(builder, tile, ir.Constant(tile.type, ir.Undefined), range(first, first + size))

    def _join(builder, rows):
        upper, lower = (_shuffle(builder, rows[k], rows[k + 1], range(2 * COLUMNS)) for k in (0, 2))
        return _shuffle(builder, upper, lower, range(4 * COLUMNS))

    def _data(context, builder, signature, array):
        return context.make_array(signature.args[0])(context, builder, array).data

    def _row_pointer(builder, data, index):
        return builder.bitcast(builder.gep(data, [index]), LLVM_ROW.as_pointer())

    @intrinsic
    def load_tile(typing_context, array, index, stride):
        """Row r is array[index + r stride : index + r stride + COLUMNS] of a contiguous one-dimensional float64 array, unchecked."""

        def generate(context, builder, signature, arguments):
            data, position, rows = _data(context, builder, signature, arguments[0]), arguments[1], []
            for _ in range(ROWS):
                rows.append(builder.load(_row_pointer(builder, data, position), align=8))
                position = builder.add(position, arguments[2])
            return _join(builder, rows)

        return TILE(array, types.intp, types.intp), generate

    @intrinsic
    def store_tile(typing_context, array, index, stride, tile):
        """The inverse of load_tile, unchecked."""

        def generate(context, builder, signature, arguments):
            data, position = _data(context, builder, signature, arguments[0]), arguments[1]
            for row in range(ROWS):
                builder.store(_part(builder, arguments[3], row * COLUMNS, COLUMNS), _row_pointer(builder, data, position), align=8)
                position = builder.add(position, arguments[2])
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, TILE), generate

    @intrinsic
    def expect_tile(typing_context, array, index, stride):
        """Have the tile that load_tile is going to read brought into the first-level cache; any index will do."""

        def generate(context, builder, signature, arguments):
            address, hint = ir.IntType(8).as_pointer(), ir.IntType(32)
            prefetch = builder.module.declare_intrinsic(
                "llvm.prefetch", (address,), ir.FunctionType(ir.VoidType(), [address, hint, hint, hint])
            )
            data, position = _data(context, builder, signature, arguments[0]), arguments[1]
            for _ in range(ROWS):
                for column in range(0, COLUMNS, DOUBLES):  # a cache line each
                    line = builder.gep(data, [builder.add(position, ir.Constant(position.type, column))])
                    reading, often, as_data = ir.Constant(hint, 0), ir.Constant(hint, 3), ir.Constant(hint, 1)
                    builder.call(prefetch, [builder.bitcast(line, address), reading, often, as_data])
                position = builder.add(position, arguments[2])
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp), generate

    @intrinsic
    def spread_rows(typing_context, array, index):
        """Row r is COLUMNS times array[index + r]."""

        def generate(context, builder, signature, arguments):
            data, undefined, rows = _data(context, builder, signature, arguments[0]), ir.Constant(LLVM_ROW, ir.Undefined), []
            for row in range(ROWS):
                scalar = builder.load(builder.gep(data, [builder.add(arguments[1], ir.Constant(arguments[1].type, row))]))
                first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
                rows.append(_shuffle(builder, first, undefined, [0] * COLUMNS))
            return _join(builder, rows)

        return TILE(array, types.intp), generate

    @intrinsic
    def checkered_rows(typing_context, array, even, odd):
        """Rows 0 and 3 are array[even : even + COLUMNS], rows 1 and 2, whose numbers have odd parity, array[odd : odd + COLUMNS]."""

        def generate(context, builder, signature, arguments):
            data = _data(context, builder, signature, arguments[0])
            even, odd = (builder.load(_row_pointer(builder, data, index), align=8) for index in arguments[1:])
            return _join(builder, [even, odd, odd, even])

        return TILE(array, types.intp, types.intp), generate

    swap_columns1 = permutation(TILE, ENTRIES ^ 1, "Column k comes from k ^ 1.")
    swap_columns2 = permutation(TILE, ENTRIES ^ 2, "Column k comes from k ^ 2.")
    swap_columns4 = permutation(TILE, ENTRIES ^ 4, "Column k comes from k ^ 4.")
    swap_columns8 = permutation(TILE, ENTRIES ^ (8 % COLUMNS), "Column k comes from k ^ 8; for tiles of sixteen columns only.")
    swap_rows1 = permutation(TILE, ENTRIES ^ COLUMNS, "Row r comes from r ^ 1.")
    swap_rows2 = permutation(TILE, ENTRIES ^ 2 * COLUMNS, "Row r comes from r ^ 2.")
    reverse_tile = permutation(TILE, ENTRIES[::-1], "Entry (r, k) comes from (ROWS - 1 - r, COLUMNS - 1 - k).")

    @intrinsic
    def fold(typing_context, tile):
        """A vector: the sum of the vectors that the tile is made of, in a fixed order."""

        def generate(context, builder, signature, arguments):
            rows = [_part(builder, arguments[0], row * COLUMNS, DOUBLES) for row in range(ROWS)]
            if COLUMNS > DOUBLES:
                rows = [builder.fadd(rows[row], _part(builder, arguments[0], row * COLUMNS + DOUBLES, DOUBLES)) for row in range(ROWS)]
            return builder.fadd(builder.fadd(rows[0], rows[2]), builder.fadd(rows[1], rows[3]))

        return VECTOR(TILE), generate
