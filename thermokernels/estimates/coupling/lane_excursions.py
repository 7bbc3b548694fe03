"""Excursions of the single-site kernel side by side, where all couplings exist and the hidden features are spins.

The sum is that of :mod:`~thermokernels.estimates.coupling.layer_excursions`, S_t after every step. Products of a layer with its starts are
whole numbers, exact in float32, and a flip changes them by one term each; sums over time are float64. A lane that is done takes
the next excursion, which brings its own random numbers: no bit depends on what the other lanes do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES, aligned_rows, choose, fill, floats_of, load, multiply_add, store
from thermokernels.estimates.coupling.generators import EXCURSION, _stream
from thermokernels.estimates.coupling.lag_pairs import Schedule
from thermokernels.estimates.coupling.single_site_coupling import couplings
from thermokernels.estimates.coupling.single_site_excursions import _single_site_excursions
from thermokernels.estimates.coupling.single_site_lanes import (
    APART,
    IS_HIDDEN,
    MEETS,
    NONE,
    TURNS,
    _couple,
    _draw,
    _look,
    _put_lane,
    _set_bits,
    _turn,
    coupling_rows,
    new_lanes,
)
from thermokernels.estimates.features import Features
from thermokernels.model.model import Model
from thermokernels.sampling.scans import ONE, SIGN

# Rows of a layer: products of what it was in x and y with what it is, sums of what it is.
X_X, X_Y, Y_X, Y_Y, X_SUM, Y_SUM = range(6)


class Products(NamedTuple):
    """layers : (2, 6, LANES) float32; start_sums : (4, LANES) of x and y in the visible and in the hidden layer; now : (1, LANES) S_t;
    sums : (LANES,) of S_t so far; jobs, begins : (LANES,) which excursion, and since which step."""

    layers: np.ndarray
    start_sums: np.ndarray
    now: np.ndarray
    sums: np.ndarray
    jobs: np.ndarray
    begins: np.ndarray


def new_products() -> Products:
    """Of lanes that are idle."""
    layers, start_sums, now = (aligned_rows(np.float32, *shape) for shape in ((2, 6), (4,), (1,)))
    return Products(layers, start_sums, now, np.zeros(LANES), np.full(LANES, NONE), np.zeros(LANES, np.int64))


@jit
def _begin(products, lane, n_visible, x, y):
    """The products of a pair that is where it starts."""
    for layer in range(2):
        products.layers[layer, :, lane] = 0.0
    for i in range(x.size):
        rows = products.layers[0 if i < n_visible else 1]
        rows[X_X, lane] += 1.0
        rows[Y_Y, lane] += 1.0
        rows[X_Y, lane] += x[i] * y[i]
        rows[Y_X, lane] += x[i] * y[i]
        rows[X_SUM, lane] += x[i]
        rows[Y_SUM, lane] += y[i]
    for layer in range(2):
        products.start_sums[2 * layer, lane] = products.layers[layer, X_SUM, lane]
        products.start_sums[2 * layer + 1, lane] = products.layers[layer, Y_SUM, lane]
    products.sums[lane] = 0.0


@jit
def _turn_y(products, lane):
    """y to -y; S_t is even in it."""
    for layer in range(2):
        for row in (X_Y, Y_Y, Y_SUM):
            products.layers[layer, row, lane] = -products.layers[layer, row, lane]


@jit
def _sign(word, bit):
    """+1 where this bit of a word is set, -1 elsewhere."""
    return floats_of((((word >> bit) << 31) ^ SIGN) | ONE)


@jit
def _follow(lanes, products):
    """Products after an update: what each of the two chains changed by, in the layer of its site."""
    found, zero = load(lanes.found, 0), fill(0.0)
    x_change, y_change = _sign(load(lanes.new, 0), 0) - _sign(found, 0), _sign(load(lanes.new, 1), 0) - _sign(found, 1)
    x_start, y_start = _sign(found, 2), _sign(found, 3)
    for layer in range(2):
        mask = found & IS_HIDDEN
        x = choose(mask, x_change, zero) if layer else choose(mask, zero, x_change)
        y = choose(mask, y_change, zero) if layer else choose(mask, zero, y_change)
        rows = products.layers[layer]
        store(rows, X_X, multiply_add(x, x_start, load(rows, X_X)))
        store(rows, X_Y, multiply_add(y, x_start, load(rows, X_Y)))
        store(rows, Y_X, multiply_add(x, y_start, load(rows, Y_X)))
        store(rows, Y_Y, multiply_add(y, y_start, load(rows, Y_Y)))
        store(rows, X_SUM, load(rows, X_SUM) + x)
        store(rows, Y_SUM, load(rows, Y_SUM) + y)


@jit
def _inner(coefficients, products, layer, start, now):
    """The product of the features of x (0) or y (1) of a layer at the start and now, of all lanes."""
    rows = products.layers[layer]
    sums = load(products.start_sums, 2 * layer + start) + load(rows, X_SUM + now)
    value = multiply_add(load(rows, 2 * start + now), fill(coefficients[0]), fill(coefficients[2]))
    return multiply_add(sums, fill(coefficients[1]), value)


@jit
def _multiply(features, products):
    """S_t of all lanes."""
    visible, hidden = features.visible, features.hidden
    total = _inner(visible, products, 0, 0, 0) * _inner(hidden, products, 1, 0, 0)
    total = total + _inner(visible, products, 0, 1, 1) * _inner(hidden, products, 1, 1, 1)
    total = total - _inner(visible, products, 0, 0, 1) * _inner(hidden, products, 1, 0, 1)
    store(products.now, 0, total - _inner(visible, products, 0, 1, 0) * _inner(hidden, products, 1, 1, 0))


@jit
def _fill_lanes(rows, lanes, products, schedule, key, first_replicate, atoms, coming, step):
    """Put the next excursions into idle lanes; the first that is left."""
    n_jobs, n_atoms = atoms.shape[0] // 2 * atoms.shape[1], atoms.shape[1]
    for lane in range(LANES):
        if products.jobs[lane] == NONE and coming < n_jobs:
            replicate, i = divmod(coming, n_atoms)
            x, y = atoms[2 * replicate, i], atoms[2 * replicate + 1, i]
            _put_lane(rows, lanes, lane, _stream(key, first_replicate + replicate, EXCURSION + i), schedule.kappa, x, y)
            _begin(products, lane, rows.n_visible, x, y)
            n_apart = lanes.numbers[APART, lane]
            if schedule.quotient and 2 * n_apart > x.size:
                _turn(lanes, lane, x.size)
                _turn_y(products, lane)
            products.jobs[lane], products.begins[lane] = coming, step
            coming += 1
    return coming


@jit
def _lane_excursions(rows, lanes, products, features, schedule, key, first_replicate, atoms, totals, zero_lags, lengths):
    """Run an excursion for every replicate and snapshot; the results (n_replicates * n_atoms,) are those of ``_single_site_excursions``."""
    n_spins, n_left, coming, step, fresh = rows.n_visible + rows.n_hidden, totals.size, 0, 0, True
    last_step = schedule.cap * n_spins
    while n_left > 0:
        if fresh:
            coming = _fill_lanes(rows, lanes, products, schedule, key, first_replicate, atoms, coming, step)
            _multiply(features, products)
            for lane in range(LANES):
                if products.jobs[lane] != NONE and products.begins[lane] == step:
                    zero_lags[products.jobs[lane]] = 0.5 * products.now[0, lane]
            fresh = False
        for lane in range(LANES):
            products.sums[lane] += np.float64(products.now[0, lane])
        _draw(lanes)
        _look(rows, lanes, products.jobs)
        _couple(lanes, schedule.kappa, schedule.quotient, n_spins)
        _follow(lanes, products)
        _multiply(features, products)
        _set_bits(lanes, products.jobs)
        step += 1
        for lane in range(LANES):
            job, n_steps = products.jobs[lane], step - products.begins[lane]
            if job == NONE or not (lanes.new[2, lane] & (TURNS | MEETS) or n_steps >= last_step):
                continue
            met = (lanes.new[2, lane] & MEETS) != 0
            if lanes.new[2, lane] & TURNS:
                met = _turn(lanes, lane, n_spins) == 0.0
                _turn_y(products, lane)
            if met or n_steps >= last_step:
                totals[job], lengths[job] = 0.5 * products.sums[lane], n_steps if met else -1
                products.jobs[lane] = NONE
                n_left -= 1
                fresh = True


def single_site_excursions(
    model: Model,
    features: Features,
    schedule: Schedule,
    key: np.uint64,
    first_replicate: int,
    atoms: NDArray[np.int8],
    found: tuple[Floats, Floats, NDArray[np.int64]],
) -> None:
    """An excursion from every snapshot of every replicate into ``found``: totals, lags zero and lengths, each (n_replicates, n_atoms).

    totals : (1/2) sum of S_t in steps; zero_lags : S_0 / 2; lengths : steps to the meeting, -1 where the pair was given up: then the sum
    has as many terms as the cap has steps. Features that are sums over some of the couplings, or E[h | v], are followed pair by pair.
    """
    if features.expected or features.indptr.size:
        _single_site_excursions(couplings(model), features, schedule, key, first_replicate, atoms, *found)
        return
    rows, lanes = coupling_rows(model), new_lanes(model.n_visible, model.n_hidden)
    totals, zero_lags, lengths = (np.empty(one.size, one.dtype) for one in found)
    _lane_excursions(rows, lanes, new_products(), features, schedule, key, first_replicate, atoms, totals, zero_lags, lengths)
    for one, values in zip(found, (totals, zero_lags, lengths), strict=True):
        one[...] = values.reshape(one.shape)
