"""One layer of two chains resampled together, many pairs of chains side by side: the maximal-agreement coupling of a sequence of updates.

Given the other layer, the units of chain X are independent with laws p_i, those of Y with laws q_i. The units are cut into groups, by the
fields alone. Within a group, let r = q(prefix) / p(prefix) for the values that both have taken so far. Both take c with probability

    a(c) / min(1, r),    a(c) = min(p(c), r q(c)),    and r becomes r q(c) / p(c),

so that min(p, q) of a whole sequence, 1 - TV of its two laws, is the probability of full agreement: no coupling has more (Voellering,
arXiv 1608.01511; MEXIT, Ernst, Kendall, Roberts and Rosenthal, arXiv 1702.03917). Otherwise they split, onto what each law has in excess:

    X takes c with probability ~ max(0, p(c) - r_X q(c)),  r_X = q / p along X's own values;   Y ~ max(0, q(c) - r_Y p(c)),  r_Y = p / q,

both with the same uniform number, so that they stay close. A group ends when the information sum (q - p)^2 / (mean (1 - mean)) of its units
exceeds kappa: a long sequence of very different laws would hardly ever agree as a whole. kappa = 0 makes every unit a group: common
random numbers. Probabilities are those of the value that is rarer under X, which keeps its digits where the other one rounds to one.
"""

from __future__ import annotations

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import choose, fill, floats_of, less, load, multiply_add, store, to_floats, words_of
from thermokernels.sampling.scans import ONE, ROWS, SIGN, _next_words

ALL = 0xFFFFFFFF
LARGEST_EXPONENT = 40.0
LARGEST_RATIO = 1e30
LOG2_E = 1.4426950408889634
# Adding this number rounds a float32 to an integer, which then stands in its low bits.
ROUNDER = 12582912.0
# 2**f = sum_k C_k f**k for |f| <= 1/2, to 5e-9: powers of log 2 over factorials.
POWERS = (
    0.6931471805599453,
    0.2402265069591007,
    0.05550410866482158,
    0.009618129107628477,
    0.0013333558146428443,
    0.0001540353039338161,
    0.00001525273380405984,
)


@jit
def _smaller(left, right):
    return choose(less(left, right), left, right)


@jit
def _larger(left, right):
    return choose(less(left, right), right, left)


@jit
def _exp_of_minus(size):
    """exp(-size) for size >= 0, down to exp(-40)."""
    power = _smaller(size, fill(LARGEST_EXPONENT)) * -LOG2_E
    shifted = power + ROUNDER
    rest = power - (shifted - ROUNDER)
    series = multiply_add(fill(POWERS[6]), rest, fill(POWERS[5]))
    series = multiply_add(series, rest, fill(POWERS[4]))
    series = multiply_add(series, rest, fill(POWERS[3]))
    series = multiply_add(series, rest, fill(POWERS[2]))
    series = multiply_add(series, rest, fill(POWERS[1]))
    series = multiply_add(series, rest, fill(POWERS[0]))
    series = multiply_add(series, rest, fill(1.0))
    return series * floats_of((words_of(shifted) + 127) << 23)


@jit
def _rare_and_common(field):
    """The probabilities of the sign against the field and of the one with it."""
    weight = _exp_of_minus(floats_of(words_of(field) & 0x7FFFFFFF) * 2.0)
    common = fill(1.0) / (weight + 1.0)
    return weight * common, common


@jit
def _excess(ratio, own_rare, own_common, other_rare, other_common):
    """max(0, own(c) - ratio other(c)) of both values c; all of own where rounding leaves nothing."""
    rare = own_rare - ratio * other_rare
    common = (fill(1.0) - ratio) - rare
    rare, common = _larger(rare, fill(0.0)), _larger(common, fill(0.0))
    some = less(fill(0.0), rare + common)
    return choose(some, rare, own_rare), choose(some, common, own_common)


@jit
def _couple_unit(u, p, q, beside_p, beside_q, agree, ratio_x, ratio_y):
    """Masks of the pairs whose X, whose Y takes the rare value, and agree, r_X, r_Y after this unit (r stands in r_X while they agree).

    p and q are the laws (rare, common) of X and of Y, beside_p and beside_q what the other chain's would be along X's and along Y's own
    values: q and p where they agree, and wherever laws do not depend on the values before.
    """
    (p_rare, p_common), (q_rare, q_common) = p, q
    more_rare = multiply_add(ratio_x, q_rare, p_rare * -1.0)  # r q(c) - p(c) for both c
    more_common = (ratio_x - 1.0) - more_rare
    y_longer = less(ratio_x, fill(1.0))
    surplus = choose(y_longer, _larger(more_rare, more_common), _smaller(more_rare, more_common) * -1.0)
    both_rare = _smaller(p_rare, ratio_x * q_rare)
    drawn = u * _smaller(ratio_x, fill(1.0))
    agree_rare = less(drawn, both_rare) & agree
    splits = less(drawn, both_rare + _larger(surplus, fill(0.0))) & (agree ^ agree_rare)
    y_splits_to_rare = less(fill(0.0), more_rare) & splits

    x_excess_rare, x_excess_common = _excess(ratio_x, p_rare, p_common, beside_p[0], beside_p[1])
    y_excess_rare, y_excess_common = _excess(ratio_y, q_rare, q_common, beside_q[0], beside_q[1])
    split = agree ^ ALL
    x_rare = agree_rare | (splits ^ y_splits_to_rare) | (less(u * (x_excess_rare + x_excess_common), x_excess_rare) & split)
    y_rare = agree_rare | y_splits_to_rare | (less(u * (y_excess_rare + y_excess_common), y_excess_rare) & split)

    x_factor = choose(x_rare, beside_p[0], beside_p[1]) / choose(x_rare, p_rare, p_common)
    y_factor = choose(y_rare, beside_q[0], beside_q[1]) / choose(y_rare, q_rare, q_common)
    ratio_y = choose(splits, y_factor / _larger(ratio_x, fill(1.0 / LARGEST_RATIO)), ratio_y * y_factor)
    ratio_x = ratio_x * x_factor
    limit = fill(LARGEST_RATIO)
    return x_rare, y_rare, agree ^ splits, _smaller(ratio_x, limit), _smaller(ratio_y, limit)


@jit
def _fields(couplings, field, i, others, sums, first):
    """sums[first + k] = field_(i + k) + sum_j couplings[i + k, j] others[j], four rows."""
    sum0, sum1, sum2, sum3 = fill(field[i]), fill(field[i + 1]), fill(field[i + 2]), fill(field[i + 3])
    for j in range(others.shape[0]):
        other = load(others, j)
        sum0 = multiply_add(fill(couplings[i, j]), other, sum0)
        sum1 = multiply_add(fill(couplings[i + 1, j]), other, sum1)
        sum2 = multiply_add(fill(couplings[i + 2, j]), other, sum2)
        sum3 = multiply_add(fill(couplings[i + 3, j]), other, sum3)
    store(sums, first, sum0)
    store(sums, first + 1, sum1)
    store(sums, first + 2, sum2)
    store(sums, first + 3, sum3)


@jit
def _means_given(couplings, field, others, sums, means):
    """means = tanh of the local fields of a layer, of both chains."""
    n_spins = means[0].shape[0]
    for i in range(0, n_spins, ROWS):
        for side in range(2):
            _fields(couplings, field, i, others[side], sums, 0)
            for row in range(min(ROWS, n_spins - i)):
                own = load(sums, row)
                rare, common = _rare_and_common(own)
                store(means[side], i + row, floats_of(words_of(common - rare) ^ (less(own, fill(0.0)) & SIGN)))


@jit
def _uniform_of(word):
    """A uniform number in (0, 1) of 31 bits of a word."""
    return _smaller(multiply_add(to_floats(word >> 1), fill(2.0**-31), fill(2.0**-33)), fill(1.0 - 2.0**-24))


@jit
def _resample_layer(couplings, field, others, generators, sums, spins):
    """Resample a layer of chain X as ``_couple_layer`` does, bit by bit, where Y is the same."""
    s0, s1, s2, s3 = load(generators, 0), load(generators, 1), load(generators, 2), load(generators, 3)
    n_spins = spins.shape[0]
    for i in range(0, n_spins, ROWS):
        _fields(couplings, field, i, others, sums, 0)
        for row in range(min(ROWS, n_spins - i)):
            own = load(sums, row)
            rare, _ = _rare_and_common(own)
            word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
            takes_rare = less(_uniform_of(word), rare)
            store(spins, i + row, floats_of(((takes_rare ^ less(own, fill(0.0))) & SIGN) | ONE))
    for k, state in enumerate((s0, s1, s2, s3)):
        store(generators, k, state)


@jit
def _couple_layer(couplings, field, others, kappa, generators, sums, spins, means, keep_means):
    """Resample a layer of the pairs: others, spins and means are (x, y) of rows; means, E[spin | others], are written only on demand."""
    s0, s1, s2, s3 = load(generators, 0), load(generators, 1), load(generators, 2), load(generators, 3)
    everywhere = words_of(fill(0.0)) ^ ALL
    agree, ratio_x, ratio_y, information = everywhere, fill(1.0), fill(0.0), fill(0.0)
    n_spins = spins[0].shape[0]
    for i in range(0, n_spins, ROWS):
        _fields(couplings, field, i, others[0], sums, 0)
        _fields(couplings, field, i, others[1], sums, ROWS)
        for row in range(min(ROWS, n_spins - i)):
            x_field, y_field = load(sums, row), load(sums, ROWS + row)
            x_down, y_down = less(x_field, fill(0.0)), less(y_field, fill(0.0))
            p_rare, p_common = _rare_and_common(x_field)
            q_rarer, q_commoner = _rare_and_common(y_field)
            opposite = x_down ^ y_down
            q_rare, q_common = choose(opposite, q_commoner, q_rarer), choose(opposite, q_rarer, q_commoner)

            full = less(fill(kappa), information)
            agree, ratio_x = agree | full, choose(full, fill(1.0), ratio_x)
            difference = q_rare - p_rare
            added = difference * difference / ((p_rare + q_rare) * (p_common + q_common)) * 4.0
            information = choose(full, fill(0.0), information) + added

            word, s0, s1, s2, s3 = _next_words(s0, s1, s2, s3)
            u = _uniform_of(word)
            p, q = (p_rare, p_common), (q_rare, q_common)
            x_rare, y_rare, agree, ratio_x, ratio_y = _couple_unit(u, p, q, q, p, agree, ratio_x, ratio_y)
            # a value that is rare where X's field is up is down, and the other way round
            store(spins[0], i + row, floats_of(((x_rare ^ x_down) & SIGN) | ONE))
            store(spins[1], i + row, floats_of(((y_rare ^ x_down) & SIGN) | ONE))
            if keep_means:
                store(means[0], i + row, floats_of(words_of(p_common - p_rare) ^ (x_down & SIGN)))
                store(means[1], i + row, floats_of(words_of(q_commoner - q_rarer) ^ (y_down & SIGN)))
    for k, state in enumerate((s0, s1, s2, s3)):
        store(generators, k, state)
