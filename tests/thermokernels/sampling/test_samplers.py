"""Sampling against three oracles: a plain twin of every path, exact laws and moments of enumerable models, and invariants."""

import math

import numpy as np
import pytest
from scipy import stats

import thermokernels as tk
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES, aligned_rows, load, store
from thermokernels.model.kernels import registry
from thermokernels.sampling import samplers, scans

small = pytest.mark.small
KERNELS = ("single-site", "two-block", "alternating")
NAMES = ", ".join(map(repr, registry.KERNELS))
DRAWS = np.random.default_rng(0)


def rbm(n_visible, n_hidden, scale=1.0, fields=True):
    draws = np.random.default_rng([n_visible, n_hidden])
    W = scale * draws.normal(size=(n_visible, n_hidden))
    return (W, draws.normal(size=n_visible), draws.normal(size=n_hidden)) if fields else (W, None, None)


class Generator:
    """xoshiro128++ on Python's integers."""

    def __init__(self, state):
        self.state = [int(word) for word in state]

    def word(self):
        def rotate(x, k):
            return ((x << k) | (x >> (32 - k))) & 0xFFFFFFFF

        s = self.state
        result = (rotate((s[0] + s[3]) & 0xFFFFFFFF, 7) + s[0]) & 0xFFFFFFFF
        shifted = (s[1] << 9) & 0xFFFFFFFF
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = rotate(s[3], 11)
        return result

    def noise(self):
        return logistic(self.word())


def logistic(word):
    v = ((word & 0x7FFFFFFF) + 0.5) / 2**32
    return (-1) ** (word >> 31) * 0.5 * (math.log1p(-v) - math.log(v))


def naive_path(model, kernel, words, burn_in, thin, n_records):
    """One chain, one spin after the other, in float64; the records are taken after burn_in + thin, burn_in + 2 thin, ... sweeps."""
    W, b, c = model
    (n_visible, n_hidden), generator = W.shape, Generator(words[:4])
    n_spins = n_visible + n_hidden
    x = np.array([1.0 - 2 * ((int(words[4 + i // 32]) >> i % 32) & 1) for i in range(n_spins)])
    coupling = np.block([[np.zeros((n_visible, n_visible)), W], [W.T, np.zeros((n_hidden, n_hidden))]])
    field = np.concatenate([b, c])
    blocks = (range(n_visible), range(n_visible, n_spins))

    def resample(i, noise):
        x[i] = 1.0 if field[i] + coupling[i] @ x + noise > 0 else -1.0

    def sweeps(count):
        if kernel == "single-site":
            for _ in range(count * n_spins):
                site = generator.word() * n_spins >> 32
                resample(site, generator.noise())
        elif kernel == "alternating":
            for i in [*blocks[0], *blocks[1]] * count:
                resample(i, generator.noise())
        else:
            for first in range(0, 2 * count, 32):
                word = generator.word()
                coins = [word >> k & 1 for k in range(min(32, 2 * count - first))]
                for k, coin in enumerate(coins):
                    for i in blocks[coin] if k == 0 or coins[k - 1] != coin else ():
                        resample(i, generator.noise())

    sweeps(burn_in)
    records = []
    for _ in range(n_records):
        sweeps(thin)
        records.append(x.copy())
    return np.array(records)


@small
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("shape", "burn_in", "thin", "n_records"), [((5, 3), 3, 2, 5), ((1, 1), 0, 1, 6), ((3, 33), 0, 1, 2), ((2, 3), 18, 19, 1)]
)
def test_every_path_is_that_of_the_naive_twin(kernel, shape, burn_in, thin, n_records):
    model = rbm(*shape)
    samples = tk.sample(*model, n_chains=3, n_sweeps=thin * n_records, burn_in=burn_in, thin=thin, kernel=kernel, seed=7)
    n_words = 4 + -(-sum(shape) // 32)
    words = np.random.SeedSequence(7).generate_state(3 * n_words).reshape(3, n_words)
    expected = np.array([naive_path(model, kernel, words[chain], burn_in, thin, n_records) for chain in range(3)])
    np.testing.assert_array_equal(np.concatenate([samples.visible, samples.hidden], axis=2), expected.transpose(1, 0, 2))
    np.testing.assert_array_equal(samples.sweeps, burn_in + thin * np.arange(1, n_records + 1))


@jit
def _noise(words, out):
    for k in range(words.shape[0]):
        store(out, k, scans._logistic(load(words, k)))


@small
def test_noise_is_logistic_to_the_rounding_of_float32_at_the_extremes_too():
    words, out = aligned_rows(np.uint32, 40), aligned_rows(np.float32, 40)
    words[:] = DRAWS.integers(0, 2**32, size=words.shape)
    words.ravel()[:8] = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF]
    _noise(words, out)
    expected = np.array([logistic(int(word)) for word in words.ravel()])
    np.testing.assert_allclose(out.ravel(), expected, rtol=2e-7, atol=2e-7)
    assert out.max() == pytest.approx(0.5 * math.log(2.0**33), rel=1e-6, abs=0)


def record_law(chain, kernel, sweeps):
    """P of the full chain over so many sweeps, as a dense matrix."""
    steps = {"single-site": chain.n_spins, "two-block": 2, "alternating": 1}[kernel]
    return np.linalg.matrix_power(chain.transition_matrix(), steps * sweeps)


def state_numbers(samples):
    bits = np.concatenate([samples.visible, samples.hidden], axis=2) < 0
    return bits @ (1 << np.arange(bits.shape[2]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(2, 2), (1, 1), (3, 1), (1, 3)])
def test_one_sweep_from_every_state_has_the_exact_transition_law(kernel, shape):
    model = rbm(*shape, scale=0.7)
    chain = tk.gibbs_chain(*model, quotient=False, kernel=kernel)
    n_starts = 20_000
    start = np.repeat(chain.spins(), n_starts, axis=0)
    samples = tk.sample(*model, n_chains=len(start), n_sweeps=1, kernel=kernel, seed=3, start=start)
    origin = np.repeat(np.arange(chain.n_states), n_starts)
    counts = np.zeros((chain.n_states, chain.n_states))
    np.add.at(counts, (origin, state_numbers(samples)[0]), 1)
    expected = n_starts * record_law(chain, kernel, 1)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    p_value = stats.chi2.sf(chi_square, chain.n_states * (chain.n_states - 1))
    assert 1e-4 < p_value < 1 - 1e-4


def exact_mean_and_error(chain, law_of_a_record, observables, n_records, n_chains):
    """Exact means under pi, and the standard error of a mean over stationary chains: all lags summed, from the dense matrix."""
    means = chain.law @ observables
    centred = observables - means
    covariances, moved = [], centred
    for _ in range(n_records):
        covariances.append(chain.law @ (centred * moved))
        moved = law_of_a_record @ moved
    lags = np.arange(n_records)
    weights = np.where(lags == 0, 1, 2) * (n_records - lags) / n_records**2
    return means, np.sqrt(weights @ np.array(covariances) / n_chains)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("shape", "scale", "fields"), [((4, 3), 0.6, True), ((3, 5), 0.8, False), ((1, 6), 1.0, True), ((7, 1), 1.0, True)]
)
def test_moments_and_energy_agree_with_the_exact_law(kernel, shape, scale, fields):
    model = rbm(*shape, scale=scale, fields=fields)
    chain = tk.gibbs_chain(*model, quotient=False, kernel=kernel)
    n_chains, n_records, thin = 4096, 30, 3
    # A stationary start, so that the exact error of a window applies from the first record on.
    states = np.random.default_rng(5).choice(chain.n_states, size=n_chains, p=chain.law)
    samples = tk.sample(
        *model, n_chains=n_chains, n_sweeps=thin * n_records, thin=thin, kernel=kernel, seed=11, start=chain.spins()[states]
    )
    spins = chain.spins().astype(float)
    visible, hidden = spins[:, : shape[0]], spins[:, shape[0] :]
    products = (visible[:, :, None] * hidden[:, None, :]).reshape(chain.n_states, -1)
    common = chain.law * n_chains > 10  # the counts of rarer states are not normal
    observables = np.column_stack([spins, products, chain.energy, np.eye(chain.n_states)[:, common]])
    means, errors = exact_mean_and_error(chain, record_law(chain, kernel, thin), observables, n_records, n_chains)
    frequencies = np.bincount(state_numbers(samples).ravel(), minlength=chain.n_states) / (n_chains * n_records)
    scores = (frequencies @ observables - means) / errors
    assert common.sum() > 4
    assert np.abs(scores).max() < 5
    assert np.mean(scores**2) < 4  # one slow mode is in most of the observables; over a hundred seeds the mean is one


def test_the_error_of_a_window_is_that_of_window_variance():
    W, _, _ = rbm(3, 3, fields=False)
    chain = tk.gibbs_chain(W, kernel="two-block")
    law = tk.visible_law(W)
    sweeps, n_chains = 64, 4096
    full = tk.gibbs_chain(W, quotient=False)
    states = np.random.default_rng(2).choice(full.n_states, size=n_chains, p=full.law)
    samples = tk.sample(W, n_chains=n_chains, n_sweeps=sweeps, kernel="two-block", seed=4, start=full.spins()[states])
    products = np.einsum("tci,tcj->cij", samples.visible.astype(float), samples.hidden.astype(float)) / sweeps
    exact = (full.law[:, None, None] * full.spins()[:, :3, None] * full.spins()[:, None, 3:]).sum(axis=0)
    measured = ((products - exact) ** 2).sum(axis=(1, 2))
    # Two steps a sweep, recorded every second step: a little more than the window of all steps, which is the exact lower bound.
    expected = tk.window_variance(tk.spectral_measure(chain), 2 * sweeps)
    assert law.sum() == pytest.approx(1)
    assert 0.95 < measured.mean() / expected < 1.15


@small
@pytest.mark.parametrize("kernel", [*KERNELS, "symmetrised-alternating"])
def test_large_couplings_saturate_without_overflow(kernel):
    W = np.array([[1e20, -1e29], [1e3, 1e29]])
    samples = tk.sample(W, n_chains=4, n_sweeps=20, kernel=kernel, seed=0)
    assert set(np.unique(samples.visible)) <= {-1, 1}
    ground = tk.sample(1e4 * np.ones((3, 2)), n_chains=4, n_sweeps=20, kernel=kernel, seed=0, start=-np.ones(5))
    assert (ground.visible == -1).all()
    assert (ground.hidden == -1).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_large_couplings_that_cancel_leave_a_fair_coin(kernel):
    samples = tk.sample([[1e12, 1e12]], n_chains=20_000, n_sweeps=40, kernel=kernel, seed=1, start=np.array([1, 1, -1]))
    # The coin is thrown if v moves before the hidden spins align with it: always, or in half of the chains.
    expected = 0.0 if kernel == "alternating" else 0.5
    assert abs(samples.visible[-1].mean() - expected) < 5 / math.sqrt(20_000)
    if kernel == "alternating":
        np.testing.assert_array_equal(samples.hidden, np.broadcast_to(samples.visible, samples.hidden.shape))


@pytest.mark.parametrize("kernel", KERNELS)
def test_results_depend_on_neither_threads_nor_chains_nor_calls(kernel, monkeypatch):
    model = rbm(20, 13)
    arguments = {"n_sweeps": 70, "burn_in": 41, "thin": 5, "kernel": kernel, "seed": 5}
    samples = tk.sample(*model, n_chains=3 * LANES + 2, **arguments)
    monkeypatch.setattr(samplers, "PRODUCTS_PER_CALL", 1)
    for other in (tk.sample(*model, n_chains=3 * LANES + 2, threads=3, **arguments), tk.sample(*model, n_chains=5, **arguments)):
        n_chains = other.visible.shape[1]
        np.testing.assert_array_equal(other.visible, samples.visible[:, :n_chains])
        np.testing.assert_array_equal(other.hidden, samples.hidden[:, :n_chains])


@small
def test_seeds_are_kept_and_repeat_a_run():
    model = rbm(4, 4)
    fresh = tk.sample(*model, n_chains=8, n_sweeps=8)
    again = tk.sample(*model, n_chains=8, n_sweeps=8, seed=fresh.seed)
    np.testing.assert_array_equal(fresh.visible, again.visible)
    assert not np.array_equal(fresh.visible, tk.sample(*model, n_chains=8, n_sweeps=8).visible)
    by_number, by_sequence = (tk.sample(*model, n_chains=8, n_sweeps=8, seed=seed) for seed in (np.int64(6), np.random.SeedSequence(6)))
    np.testing.assert_array_equal(by_number.hidden, by_sequence.hidden)
    child = tk.sample(*model, n_chains=8, n_sweeps=8, seed=np.random.SeedSequence(6).spawn(1)[0])
    assert not np.array_equal(child.hidden, by_sequence.hidden)


@pytest.mark.parametrize("kernel", KERNELS)
def test_chains_are_independent_of_each_other_and_of_other_seeds(kernel):
    runs = [tk.sample(np.zeros((6, 6)), n_chains=40, n_sweeps=3000, thin=10, kernel=kernel, seed=seed) for seed in (0, 1)]
    paths = np.concatenate([run.visible.transpose(1, 0, 2).reshape(40, -1) for run in runs]).astype(float)
    correlations = paths @ paths.T / math.sqrt(paths.shape[1])
    assert np.abs(correlations[np.triu_indices(80, 1)]).max() < 5


@small
def test_packed_spins_are_the_same_spins():
    model = rbm(9, 33)
    arguments = {"n_chains": 5, "n_sweeps": 6, "seed": 1, "kernel": "alternating"}
    plain, packed = tk.sample(*model, **arguments), tk.sample(*model, packed=True, **arguments)
    assert packed.visible.shape == (6, 5, 2)
    assert packed.hidden.shape == (6, 5, 5)
    assert packed.visible.dtype == np.uint8
    assert plain.visible.dtype == np.int8
    assert repr(packed) == "Samples(6 records of 5 chains, 9 visible + 33 hidden spins, packed, alternating)"
    for unpacked in (packed.unpacked(), plain.unpacked()):
        assert not unpacked.packed
        np.testing.assert_array_equal(unpacked.visible, plain.visible)
        np.testing.assert_array_equal(unpacked.hidden, plain.hidden)
    # the bit order of the package: a visible configuration of up to eight spins is its state number
    few = tk.sample(*rbm(3, 2), packed=True, **arguments)
    np.testing.assert_array_equal(few.visible[..., 0], (few.unpacked().visible < 0) @ np.array([1, 2, 4]))


@small
def test_progress_is_told_in_sweeps_up_to_the_last_record(monkeypatch):
    monkeypatch.setattr(samplers, "PRODUCTS_PER_CALL", 1)
    told = []
    tk.sample(*rbm(2, 2), n_chains=1, n_sweeps=11, burn_in=20, thin=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(16, 28), (20, 28), (24, 28), (28, 28)]


@small
def test_a_run_goes_on_from_its_last_record():
    model = rbm(3, 2)
    first = tk.sample(*model, n_chains=4, n_sweeps=3, seed=0)
    last = np.concatenate([first.visible[-1], first.hidden[-1]], axis=1)
    beyond = tk.sample(1e4 * np.eye(2), n_chains=4, n_sweeps=1, seed=0, start=np.ones(4, dtype=int))
    assert tk.sample(*model, n_chains=4, n_sweeps=1, seed=1, start=last).visible.shape == (1, 4, 3)
    assert (beyond.visible == 1).all()


BAD = [
    ({"n_chains": 0}, "n_chains must be an integer of at least 1; got 0"),
    ({"n_chains": 2.0}, "n_chains must be an integer of at least 1; got 2.0"),
    ({"n_chains": True}, "n_chains must be an integer"),
    ({"n_sweeps": -3}, "n_sweeps must be an integer of at least 1; got -3"),
    ({"n_sweeps": 2, "thin": 3}, "n_sweeps must be at least thin, or nothing is recorded; got n_sweeps=2 and thin=3"),
    ({"burn_in": -1}, "burn_in must be an integer of at least 0; got -1"),
    ({"thin": 0}, "thin must be an integer of at least 1; got 0"),
    ({"threads": 0}, "threads must be an integer of at least 1; got 0"),
    ({"kernel": "metropolis"}, f"kernel must be one of {NAMES}; got 'metropolis'"),
    ({"seed": -1}, "seed must be None, a nonnegative integer or a numpy.random.SeedSequence; got -1"),
    ({"seed": "a"}, "seed must be None"),
    ({"start": np.ones(3)}, r"start must have shape \(4,\) or \(2, 4\), visible spins first; got shape \(3,\)"),
    ({"start": [1, 0, 1, 1]}, r"start must hold spins \+1 and -1; entry \(1,\) is 0"),
    ({"start": [1, np.nan, 1, 1]}, r"start must hold spins \+1 and -1; entry \(1,\) is nan"),
    ({"start": [True] * 4}, "start must hold spins .* got dtype bool"),
    ({"start": [[1], [1, 1]]}, "start must be an array of spins; got rows of different lengths"),
    ({"W": [[1.0, np.nan], [0, 0]]}, r"W must be finite; entry \(0, 1\) is nan"),
    ({"W": [[1e31, 0], [0, 0]]}, r"W, b and c must give local fields of at most 1e\+30 in absolute value; they reach 1e\+31"),
    ({"b": [1.0]}, r"b must have shape \(2,\); got shape \(1,\)"),
    ({"c": [1.0, np.inf]}, "c must be finite"),
]


@small
@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_arguments_are_named(change, message):
    arguments = {"W": np.ones((2, 2)), "n_chains": 2, "n_sweeps": 2} | change
    with pytest.raises(ValueError, match=message):
        tk.sample(arguments.pop("W"), **arguments)


@small
def test_samples_that_do_not_fit_say_what_they_would_take():
    with pytest.raises(
        tk.ModelTooLargeError,
        match=r"1000000 records of 1000000 chains of 4 spins would take .* GiB of memory .* use a larger thin, fewer chains or packed=True",
    ):
        tk.sample(np.ones((2, 2)), n_chains=10**6, n_sweeps=10**6)
    octets = np.broadcast_to(np.uint8(0), (10**8, 10**6, 1))
    huge = tk.Samples(octets, octets, np.arange(1), np.random.SeedSequence(0), "two-block", 8, 8, packed=True)
    with pytest.raises(tk.ModelTooLargeError, match=r"unpacked samples would take .* unpack fewer records at a time"):
        huge.unpacked()


@pytest.mark.parametrize("parts", [([[0.4, -0.4, 0.3]],), ([[0.4], [-0.4], [0.3]],), ([[0.5]], [0.6], [0.0]), ([[0.5]], [0.0], [-0.6])])
def test_local_fields_add_up_couplings_and_field_of_either_layer(parts):
    with pytest.raises(ValueError, match=r"local fields of at most 1e\+30 in absolute value; they reach 1.1e\+30"):
        samplers.require_moderate(tk.Model(*(1e30 * np.array(part) for part in parts)))
    samplers.require_moderate(tk.Model(*(0.9e30 * np.array(part) for part in parts)))


def test_pieces_of_a_bundle_change_no_bit(monkeypatch):
    """Of a burn-in of seven sweeps and five records, in one call each and in calls of three sweeps."""
    model, found, checked = tk.Model(*rbm(2, 3)), [], []
    for products in (samplers.PRODUCTS_PER_CALL, 3 * 128 * 6):
        monkeypatch.setattr(samplers, "PRODUCTS_PER_CALL", products)
        checks = []
        sequence = np.random.SeedSequence(5)
        found.append(samplers.alternating_bundle(model, samplers.LANES, 0, 5, 7, sequence, lambda checks=checks: checks.append(1)))
        checked.append(len(checks))
    np.testing.assert_array_equal(found[0].trace(), found[1].trace())
    assert checked == [2, 3 + 2]
