"""Every tolerance of the kernels, once, with the reason for its size.

They follow from float64 (``eps = 2.2e-16``) and from conditioning; no result is a reason to move one.
"""

# The distance from one to the next double, and half of it: the relative error of one rounding.
EPSILON, UNIT = 2.0**-52, 2.0**-53

# Relative residual |b - A z| / |b| of a resolvent solve. T_O is second order in it (section 4), so 1e-10 leaves T_O at 1e-20 / gap.
SOLVE = 1e-10

# T_O by conjugate gradients or Cholesky is kept where its error is certified below this share of it, and else state reduction is used.
DIGITS = 1e-10

# Solutions of conjugate gradients or Cholesky are kept where they are certified to this share of themselves (in the norm of A), and else
# state reduction is used: the gradient of T_O is of first order in them.
GRADIENT = 1e-8

# A resolvent or T_O by state reduction whose proven bound is above this share of it is refused.
REDUCTION = 1e-2

# Basins whose masses differ by less than this share are equally deep: a symmetry exchanges them, and only rounding tells them apart.
MASS_TIE = 1e-10

# Smallest spectral gap that float64 resolves: eigenvalues of I - P carry an absolute rounding error of a few eps.
GAP = 1e-12

# Gaps below this are computed by state reduction where the size allows: eigenvalues of I - P in float64 have less than six digits there.
REDUCED_GAP = 1e-9

# Two energies are one level of the landscape when they differ by less than this share of the energy range.
ENERGY_TIE = 1e-12

# A node of the spectral measure is seen by the observables when it carries more than this share of the total weight.
WEIGHT = 1e-12

# Elementwise residual |(I - P) t - 1| of a hitting time: it bounds the relative error of every entry of t (M-matrix).
HITTING = 1e-8

# |sum p - 1| of a law that a caller hands in.
LAW_SUM = 1e-9

# Rank decisions: singular values below this share of the largest are zero.
RANK = 1e-10

# A number this close to +1 or -1 is a spin: float32, printed with seven digits, or the tanh of a saturated field.
SPIN = 1e-6
