"""Every public gradient beside its value, in one table: derivatives along random directions at random, unsymmetric points.

A pair is a function of one flat vector and its vector-Jacobian product. Checked are the slopes of the value (central differences,
extrapolated to vanishing steps) entry by entry, and the inner-product identity <J v, w> = <v, J' w>.
"""

import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.model.hypernetwork import Shape

SHAPE = Shape(3, 2, 2, 2, 3)


class Pair(NamedTuple):
    gradient: Callable  # the public function under test
    point: np.ndarray
    value: Callable  # x -> array or number
    pull_back: Callable  # (x, ct_value) -> ct_x


def model_pair(gradient, value, shape, with_fields=True, seed=0):
    """A function of (W, b, c), all flattened into one vector, or of W alone."""
    draws = np.random.default_rng([seed, *shape])
    sizes = np.cumsum([shape[0] * shape[1], shape[0]])

    def unpack(x):
        W, b, c = np.split(x, sizes)
        return W.reshape(shape), b, c

    if with_fields:
        point = draws.normal(size=sizes[-1] + shape[1])
        return Pair(
            gradient,
            point,
            lambda x: value(*unpack(x)),
            lambda x, ct: ct * np.concatenate([part.ravel() for part in gradient(*unpack(x), fields=True)[1]]),
        )
    none = None, None
    return Pair(
        gradient,
        draws.normal(size=sizes[0]),
        lambda x: value(x.reshape(shape), *none),
        lambda x, ct: ct * gradient(x.reshape(shape), *none, fields=False)[1].ravel(),
    )


def data_law(n_visible):
    return np.random.default_rng(n_visible).dirichlet(np.ones(2**n_visible))


def q_pair(shape, with_fields, method):
    p_data = data_law(shape[0])

    def gradient(W, b, c, fields):
        return adjoints.q_struct(W, p_data, method=method, b=b, c=c, fields=fields)

    pair = model_pair(gradient, lambda W, b, c: tk.q_struct(W, p_data, method=method, b=b, c=c).value, shape, with_fields)
    return pair._replace(gradient=adjoints.q_struct)


def time_pair(shape, with_fields, method):
    def gradient(W, b, c, fields):
        return adjoints.observable_variance_time(W, b, c, method=method, fields=fields)

    pair = model_pair(gradient, lambda W, b, c: tk.observable_variance_time(tk.gibbs_chain(W, b, c), method), shape, with_fields)
    return pair._replace(gradient=adjoints.observable_variance_time)


def asymptotic_pair(shape, with_fields):
    def gradient(W, b, c, fields):
        return adjoints.asymptotic_variance(W, b, c, fields=fields)

    pair = model_pair(gradient, lambda W, b, c: tk.asymptotic_variance(tk.gibbs_chain(W, b, c)), shape, with_fields)
    return pair._replace(gradient=adjoints.asymptotic_variance)


def exchangeable_pair(gradient, number):
    """By the couplings of 2 x 2 classes of exchangeable sites, which fields keep apart."""
    rows, columns = np.array([0, 0, 1, 0]), np.array([0, 1, 1])

    def chain(w):
        W = w.reshape(2, 2)[np.ix_(rows, columns)]
        return tk.exchangeable_chain(W, np.array([0.3, -0.2])[rows], np.array([0.1, 0.4])[columns])

    return Pair(
        gradient,
        np.random.default_rng(4).normal(size=4),
        lambda w: number(gradient(chain(w))[0]),
        lambda w, ct: ct * gradient(chain(w))[1].ravel(),
    )


def exchangeable_q_pair():
    counts = np.random.default_rng(9).dirichlet(np.ones(8))
    pair = exchangeable_pair(lambda chain: adjoints.exchangeable_q(chain, counts), lambda q: q.value)
    return pair._replace(gradient=adjoints.exchangeable_q)


def probe_pair(shape, with_fields):
    """With no directions taken out, the estimate is a function of the couplings alone once the signs are drawn."""
    options = {"n_probes": 3, "seed": 5, "n_directions": 0}

    def gradient(W, b, c, fields):
        return adjoints.probe_variance_time(W, b=b, c=c, fields=fields, **options)

    pair = model_pair(gradient, lambda W, b, c: tk.probe_variance_time(tk.gibbs_chain(W, b, c), **options).value, shape, with_fields)
    return pair._replace(gradient=adjoints.probe_variance_time)


def probe_q_pair(shape, with_fields):
    options, p_data = {"n_probes": 3, "seed": 5, "n_directions": 0}, data_law(shape[0])

    def gradient(W, b, c, fields):
        return adjoints.probe_q_struct(W, p_data, b=b, c=c, fields=fields, **options)

    pair = model_pair(gradient, lambda W, b, c: tk.probe_q_struct(W, p_data, b=b, c=c, **options).value, shape, with_fields)
    return pair._replace(gradient=adjoints.probe_q_struct)


def divergence_pair(shape, with_fields):
    p_data = data_law(shape[0])

    def gradient(W, b, c, fields):
        return adjoints.kl_divergence(p_data, W, b, c, fields=fields)

    pair = model_pair(gradient, lambda W, b, c: tk.kl_divergence(p_data, W, b, c), shape, with_fields)
    return pair._replace(gradient=adjoints.kl_divergence)


def network_pair(gradient, pull_back):
    draws = np.random.default_rng(1)
    code = draws.normal(size=SHAPE.n_codes)

    def network(phi):
        return tk.Hypernetwork.from_parameters(phi, SHAPE)

    return Pair(
        gradient,
        draws.normal(size=SHAPE.n_parameters),
        lambda phi: tk.couplings(network(phi), code),
        lambda phi, ct: pull_back(network(phi), code, ct),
    )


def composed_pair():
    """phi -> W -> Q, pulled back without the Jacobian: the chain dQ/dphi of the experiment."""
    inner = network_pair(adjoints.couplings_vjp, adjoints.couplings_vjp)
    p_data = data_law(SHAPE.n_visible)

    def pull_back(phi, ct):
        return inner.pull_back(phi, ct * adjoints.q_struct(inner.value(phi), p_data)[1])

    return Pair(adjoints.q_struct, inner.point, lambda phi: tk.q_struct(inner.value(phi), p_data).value, pull_back)


PAIRS = {
    "q_struct, quotient": q_pair((3, 2), False, "cholesky"),
    "q_struct, quotient, cg": q_pair((4, 2), False, "cg"),
    "q_struct, odd N": q_pair((2, 3), False, "cg"),
    "q_struct, fields": q_pair((2, 3), True, "cholesky"),
    "q_struct, fields, cg": q_pair((4, 1), True, "cg"),
    "observable_variance_time, quotient": time_pair((2, 3), False, "cholesky"),
    "observable_variance_time, quotient, cg": time_pair((4, 2), False, "cg"),
    "observable_variance_time, fields": time_pair((3, 2), True, "cholesky"),
    "observable_variance_time, fields, cg": time_pair((4, 2), True, "cg"),
    "asymptotic_variance, quotient": asymptotic_pair((2, 3), False),
    "asymptotic_variance, fields": asymptotic_pair((3, 2), True),
    "exchangeable_variance_time": exchangeable_pair(adjoints.exchangeable_variance_time, lambda time: time.value),
    "exchangeable_asymptotic_variance": exchangeable_pair(adjoints.exchangeable_asymptotic_variance, float),
    "exchangeable_q": exchangeable_q_pair(),
    "probe_variance_time": probe_pair((3, 2), False),
    "probe_variance_time, fields": probe_pair((2, 3), True),
    "probe_q_struct": probe_q_pair((2, 3), False),
    "probe_q_struct, fields": probe_q_pair((3, 2), True),
    "kl_divergence": divergence_pair((3, 4), False),
    "kl_divergence, fields": divergence_pair((4, 2), True),
    "couplings_vjp": network_pair(adjoints.couplings_vjp, adjoints.couplings_vjp),
    "couplings_jacobian": network_pair(
        adjoints.couplings_jacobian, lambda network, code, ct: adjoints.couplings_jacobian(network, code).T @ ct.ravel()
    ),
    "Q of the hypernetwork": composed_pair(),
}


def push_forward(pair, direction):
    """J v: central differences, three times extrapolated (Richardson), so that their error is of order h^8."""
    steps = 0.02 / 2.0 ** np.arange(4)
    slopes = [(np.asarray(pair.value(pair.point + h * direction)) - pair.value(pair.point - h * direction)) / (2 * h) for h in steps]
    for order in (4, 16, 64):
        slopes = [(order * finer - coarser) / (order - 1) for coarser, finer in pairwise(slopes)]
    return slopes[0]


def test_every_public_gradient_is_in_the_table():
    named = {getattr(adjoints, name).__name__ for name in adjoints.__all__ if inspect.isfunction(getattr(adjoints, name))}
    public = named - {"estimate_q_and_gradient"}  # drawn at random: held against its standard error in test_estimate.py
    assert public == {pair.gradient.__name__ for pair in PAIRS.values()}


@pytest.mark.parametrize("name", PAIRS)
def test_gradient_equals_the_slopes_of_its_value(name):
    pair = PAIRS[name]
    value = np.asarray(pair.value(pair.point))
    ct_value = np.random.default_rng(2).normal(size=value.shape)
    ct_point = pair.pull_back(pair.point, ct_value)
    assert ct_point.shape == pair.point.shape
    slopes = np.array([(push_forward(pair, direction) * ct_value).sum() for direction in np.eye(pair.point.size)])
    assert np.abs(slopes).min() > 0  # an unsymmetric point: nothing is right by vanishing
    np.testing.assert_allclose(ct_point, slopes, rtol=0, atol=1e-8 * np.abs(slopes).max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PAIRS)
def test_pulling_back_is_the_transpose_of_pushing_forward(name, seed):
    pair, draws = PAIRS[name], np.random.default_rng(seed)
    v, w = draws.normal(size=pair.point.size), draws.normal(size=np.shape(pair.value(pair.point)))
    forward, backward = (push_forward(pair, v) * w).sum(), v @ pair.pull_back(pair.point, w)
    scale = np.linalg.norm(pair.pull_back(pair.point, w)) * np.linalg.norm(v)
    assert forward == pytest.approx(backward, abs=1e-8 * scale)
