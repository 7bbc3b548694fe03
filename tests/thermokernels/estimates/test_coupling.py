"""Couplings: marginals, agreement, unbiased starts and excursions, each against its law."""

import numba
import numpy as np
import pytest
from dense_chain import DenseChain, mask_of, model

import thermokernels as tk
from thermokernels.compiled.simd_chains import LANES, aligned_rows
from thermokernels.estimates.coupling.generators import _start_lane, _stream
from thermokernels.estimates.coupling.lag_pairs import Schedule, _lag_pairs, new_pairs
from thermokernels.estimates.coupling.lane_excursions import single_site_excursions
from thermokernels.estimates.coupling.layer_coupling import _couple_layer
from thermokernels.estimates.coupling.layer_excursions import _layer_excursions
from thermokernels.estimates.coupling.layer_excursions import new_lanes as new_layer_lanes
from thermokernels.estimates.coupling.single_site_coupling import couplings
from thermokernels.estimates.coupling.single_site_lanes import _couple, _draw, _look, _put_lane, _set_bits, coupling_rows, new_lanes
from thermokernels.estimates.features import features_of
from thermokernels.sampling.samplers import block_model

KEY = np.uint64(11)


def coupled_layer(fields_x, fields_y, kappa, n_rounds):
    """Spins of a layer (2, n_rounds * LANES, n) given the fields of both chains, through couplings with one spin on the other side."""
    n = len(fields_x)
    rows = -n % 4
    table = np.pad(np.stack([fields_x, fields_y], axis=1), ((0, rows), (0, 0))).astype(np.float32)
    # spins 1 on the first row for X, on the second for Y: the field of X is column 0, that of Y is column 1
    others = [aligned_rows(np.float32, 2), aligned_rows(np.float32, 2)]
    others[0][0], others[1][1] = 1, 1
    spins, sums, words = (aligned_rows(np.float32, n), aligned_rows(np.float32, n)), aligned_rows(np.float32, 8), aligned_rows(np.uint32, 4)
    for lane in range(LANES):
        _start_lane(np.uint64(_stream(KEY, lane, 0)), words, lane)
    seen = []
    for _ in range(n_rounds):
        _couple_layer(table, np.zeros(n + rows, np.float32), tuple(others), kappa, words, sums, spins, spins, False)
        seen.append([spins[0].T.copy(), spins[1].T.copy()])
    return np.concatenate(seen, axis=1)


def frequencies(spins):
    n = spins.shape[1]
    return np.bincount(((spins < 0) << np.arange(n)).sum(axis=1), minlength=2**n)


def product_law(fields):
    n = len(fields)
    spins = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    return (1 / (1 + np.exp(-2 * spins * fields))).prod(axis=1)


def test_models_of_every_shape_are_of_one_type():
    """Or each would be compiled for itself, and `thermo warmup` for none but its own."""
    types = {numba.typeof(tuple(couplings(tk.Model(np.ones(shape))))) for shape in ((1, 2), (2, 1), (1, 1), (2, 3))}
    assert len(types) == 1


@pytest.mark.parametrize("kappa", [0.0, 1.0, 16.0, 1e9])
def test_a_layer_keeps_both_laws(kappa):
    draws = np.random.default_rng(5)
    fields = draws.normal(0, 1, (2, 5))
    x, y = coupled_layer(*fields, kappa, 200_000 // LANES)
    for spins, law in ((x, product_law(fields[0])), (y, product_law(fields[1]))):
        counts = frequencies(spins)
        expected = law * len(spins)
        assert ((counts - expected) ** 2 / expected).sum() < 31 + 5 * np.sqrt(62)
    agreed = (x == y).all(axis=1).mean()
    most = np.minimum(product_law(fields[0]), product_law(fields[1])).sum()
    assert agreed < most + 0.006
    if kappa == 1e9:
        assert agreed == pytest.approx(most, abs=0.006)
    if kappa == 0:
        units = 1 - np.abs(1 / (1 + np.exp(-2 * fields[0])) - 1 / (1 + np.exp(-2 * fields[1])))
        assert agreed == pytest.approx(units.prod(), abs=0.006)


def test_equal_fields_stay_together_and_rare_values_keep_their_digits():
    fields = np.array([7.0, -7.0, 0.0, 2.0, -1.0])
    x, y = coupled_layer(fields, fields, 16.0, 2_000_000 // LANES)
    assert (x == y).all()
    rare = 1 / (1 + np.exp(14.0))
    for unit, sign in ((0, -1), (1, 1)):
        assert (x[:, unit] == sign).mean() == pytest.approx(rare, rel=0.9, abs=0)


def started(W, b, c, schedule, n_pairs):
    n_spins = sum(W.shape)
    atoms, weights = np.empty((n_pairs, schedule.n_atoms, n_spins), np.int8), np.empty((n_pairs, schedule.n_atoms))
    meetings = np.empty(n_pairs, np.int64)
    pairs, table = new_pairs(*W.shape), block_model(tk.Model(W, b, c))
    for first in range(0, n_pairs, LANES):
        rows = slice(first, min(first + LANES, n_pairs))
        _lag_pairs(table, pairs, schedule, KEY, first, atoms[rows], weights[rows], meetings[rows])
    return atoms, weights, meetings


@pytest.mark.parametrize("n_intervals", [1, 3])
def test_starts_have_no_bias(n_intervals):
    # so short a lag that most of the weight stands on corrections
    W, b, c = model((2, 3), 0.7, True, 8)
    atoms, weights, meetings = started(W, b, c, Schedule(16.0, False, 1, n_intervals, 4, 10**6), 40_000)
    assert (meetings >= 0).all()
    assert (weights < 0).any()
    chain = DenseChain(W, b, c, "alternating")
    f = np.hstack([chain.observables(), chain.v, chain.h, np.ones((len(chain.v), 1))])
    v, h = atoms[:, :, :2].astype(float), atoms[:, :, 2:].astype(float)
    sampled = np.concatenate([np.einsum("pai,paj->paij", v, h).reshape(*v.shape[:2], -1), v, h, np.ones((*v.shape[:2], 1))], axis=2)
    each = (weights[:, :, None] * sampled).mean(axis=1)
    z = (each.mean(axis=0) - chain.law @ f) / (each.std(axis=0) / np.sqrt(len(each)))
    assert np.abs(z).max() < 4


@pytest.mark.parametrize("kernel", ["alternating", "two-block", "single-site"])
@pytest.mark.parametrize("kappa", [0.0, 16.0])
@pytest.mark.parametrize("fields", [False, True], ids=["pairs", "fields"])
def test_excursions_from_given_starts(kernel, kappa, fields):
    """(1/2) < f(x) - f(y), R f(x) - R f(y) > with R = (I - P)^+, the two chains being marginally right, however they are coupled."""
    W, b, c = model((2, 3), 0.8, fields, 9)
    chain = DenseChain(W, b, c, kernel)
    compare_excursions(tk.Model(W, b, c), chain, kernel, kappa, chain.observables(), ("products", "pm1", False))


@pytest.mark.parametrize("kernel", ["alternating", "two-block", "single-site"])
@pytest.mark.parametrize(
    ("masked", "words"),
    [
        (False, ("products", "zero-one", True)),
        (False, ("expected", "pm1", False)),
        (False, ("expected", "zero-one", True)),
        (True, ("products", "pm1", False)),
        (True, ("products", "zero-one", True)),
        (True, ("expected", "pm1", False)),
        (True, ("expected", "zero-one", True)),
    ],
)
@pytest.mark.parametrize("fields", [False, True], ids=["pairs", "fields"])
def test_excursions_of_other_features(kernel, masked, words, fields):
    W, b, c = model((2, 3), 0.8, fields, 9)
    mask = mask_of(W.shape) if masked else np.ones(W.shape, np.bool_)
    chain = DenseChain(W * mask, b, c, kernel)
    f = chain.observables(*words)
    f[:, :6] *= mask.ravel()
    compare_excursions(tk.Model(W * mask, b, c, mask=mask), chain, kernel, 16.0, f, words)


@pytest.mark.parametrize("kappa", [0.0, 4.0, 16.0, 1e9])
def test_a_spin_at_a_time_keeps_both_laws(kappa):
    """The laws after so many updates that sequences split, end and begin again."""
    W, b, c = model((2, 3), 0.9, True, 6)
    rows, chain, n_updates, n_rounds = coupling_rows(tk.Model(W, b, c)), DenseChain(W, b, c, "single-site"), 13, 400
    states = np.hstack([chain.v, chain.h]).astype(np.int8)
    start, counts, lanes, jobs = (3, 20), np.zeros((2, len(states))), new_lanes(2, 3), np.zeros(LANES, np.int64)
    shifts = np.array([0, 1, 16, 17, 18])  # a word for each layer
    for number in range(n_rounds):
        for lane in range(LANES):
            _put_lane(rows, lanes, lane, np.uint64(_stream(KEY, number, lane)), kappa, *states[list(start)])
        for _ in range(n_updates):
            _draw(lanes)
            _look(rows, lanes, jobs)
            _couple(lanes, kappa, False, 5)
            _set_bits(lanes, jobs)
        for side in range(2):
            words = lanes.bits[:, side].astype(np.int64) @ [1, 1 << 16]
            now = 2 * (words[:, None] >> shifts & 1) - 1
            counts[side] += (now[:, None] == states).all(axis=2).sum(axis=0)
    for side in range(2):
        expected = np.linalg.matrix_power(chain.P, n_updates)[start[side]] * n_rounds * LANES
        assert ((counts[side] - expected) ** 2 / expected).sum() < 31 + 5 * np.sqrt(62)


def test_fields_of_a_site_are_added_up_from_bits():
    draws = np.random.default_rng(4)
    W, b, c = draws.normal(size=(20, 35)), draws.normal(size=20), draws.normal(size=35)
    x, y = draws.choice([-1, 1], (2, 55)).astype(np.int8)
    rows, lanes, jobs = coupling_rows(tk.Model(W, b, c)), new_lanes(20, 35), np.zeros(LANES, np.int64)
    for lane in range(LANES):
        _put_lane(rows, lanes, lane, np.uint64(lane), 16.0, x, y)
    seen = set()
    for _ in range(20):
        _draw(lanes)
        _look(rows, lanes, jobs)
        for lane, place in enumerate(lanes.sites):
            site = place if place < 20 else place - 32 + 20
            seen.add(site)
            for side, spins in enumerate((x, y)):
                exact = (np.concatenate([W @ spins[20:] + b, W.T @ spins[:20] + c]))[site]
                assert lanes.fields[side, lane] == pytest.approx(exact, abs=1e-5)
            found = [spins[site] > 0 for spins in (x, y, x, y)] + [site >= 20]
            assert [int(lanes.found[0, lane]) >> k & 1 for k in range(5)] == found
    assert seen == set(range(55))


def compare_excursions(model, chain, kernel, kappa, f, words):
    solution, quotient = chain.resolvent(f), not model.has_fields and words[1:] == ("pm1", False)
    states = np.hstack([chain.v, chain.h]).astype(np.int8)
    n_starts, n_atoms = 12, 4000
    pairs = np.random.default_rng(1).integers(0, len(states), (n_starts, 2))
    atoms = np.repeat(states[pairs].reshape(-1, 1, 5), n_atoms, axis=1).copy()
    totals, zero_lags = np.empty((n_starts, n_atoms)), np.empty((n_starts, n_atoms))
    lengths = np.empty((n_starts, n_atoms), np.int64)
    schedule, rule = Schedule(kappa, quotient, 1, 1, n_atoms, 10**6), features_of(model, *words)
    if kernel == "single-site":
        single_site_excursions(model, rule, schedule, KEY, 0, atoms, (totals, zero_lags, lengths))
    else:
        table, lanes = block_model(model), new_layer_lanes(2, 3)
        two_block = kernel == "two-block"
        _layer_excursions(table, new_pairs(2, 3), lanes, schedule, rule, two_block, KEY, 0, atoms, totals, zero_lags, lengths)
    assert (lengths >= 0).all()
    x, y = pairs.T
    assert zero_lags[:, 0] == pytest.approx(0.5 * ((f[x] - f[y]) ** 2).sum(axis=1))
    expected = 0.5 * ((f[x] - f[y]) * (solution[x] - solution[y])).sum(axis=1)
    errors = totals.std(axis=1) / np.sqrt(n_atoms)
    random = errors > 1e-9  # the others are known, but for rounding
    z = (totals.mean(axis=1) - expected)[random] / errors[random]
    assert totals.mean(axis=1)[~random] == pytest.approx(expected[~random], abs=1e-7)
    assert np.abs(z).max() < 4
