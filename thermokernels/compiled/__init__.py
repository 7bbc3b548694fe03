"""The words that kernels are written in: the decorator, vectors and tiles in registers, numbers with a wide exponent."""
