"""The names and signatures that other code builds on."""

import dataclasses
import inspect
import subprocess
import sys

import numpy as np
import pytest

import adjoints
import thermokernels as tk

pytestmark = pytest.mark.small

REQUIRED = inspect.Parameter.empty

# name -> leading parameters and their defaults; more may follow if they have defaults
FUNCTIONS = {
    tk.gibbs_chain: {"W": REQUIRED, "b": None, "c": None, "quotient": None, "kernel": "single-site"},
    tk.q_struct: {"W": REQUIRED, "p_data": REQUIRED, "window": 100.0, "method": "auto", "rtol": 1e-10},
    tk.observable_variance_time: {"chain": REQUIRED},
    tk.asymptotic_variance: {"chain": REQUIRED},
    tk.operational_q: {
        "chain": REQUIRED,
        "p_data": REQUIRED,
        "window": REQUIRED,
        "burn_in": 0,
        "start": "stationary",
        "n_chains": 1,
        "n_data": None,
    },
    tk.alternating_variance_time: {"W": REQUIRED, "b": None, "c": None, "observables": "products", "units": "pm1", "fields": False},
    tk.exchangeable_blocks: {"chain": REQUIRED, "kernel": "alternating"},
    tk.exchangeable_chain: {"W": REQUIRED, "b": None, "c": None},
    tk.exchangeable_q: {"chain": REQUIRED, "data": REQUIRED, "window": 100.0},
    tk.resolvent: {"chain": REQUIRED, "F": REQUIRED},
    tk.solve_resolvent: {"chain": REQUIRED, "F": REQUIRED},
    tk.spectral_measure: {"chain": REQUIRED},
    tk.spectral_gap: {"chain": REQUIRED},
    tk.solve_spectral_gap: {"chain": REQUIRED, "sharp": True},
    tk.window_variance: {"measure": REQUIRED, "K": REQUIRED},
    tk.merge_tree: {"chain": REQUIRED},
    tk.hitting_times: {"chain": REQUIRED, "target": REQUIRED},
    tk.conductance: {"chain": REQUIRED, "mask": REQUIRED},
    tk.visible_law: {"W": REQUIRED, "b": None, "c": None},
    tk.kl_divergence: {"p_data": REQUIRED, "W": REQUIRED},
    tk.estimate_q: {"model": REQUIRED, "data": REQUIRED, "window": 100.0, "kernel": "alternating"},
    adjoints.q_struct: {"W": REQUIRED, "p_data": REQUIRED, "window": 100.0},
    adjoints.observable_variance_time: {"W": REQUIRED},
    adjoints.asymptotic_variance: {"W": REQUIRED},
    adjoints.kl_divergence: {"p_data": REQUIRED, "W": REQUIRED},
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_signatures(function):
    parameters = inspect.signature(function).parameters
    fixed = FUNCTIONS[function]
    assert list(parameters)[: len(fixed)] == list(fixed)
    assert {name: parameters[name].default for name in fixed} == fixed
    assert all(parameter.default is not REQUIRED for name, parameter in parameters.items() if name not in fixed)
    assert inspect.getdoc(function)


@pytest.mark.parametrize("module", [tk, adjoints], ids=lambda module: module.__name__)
def test_every_public_name_exists_and_is_documented(module):
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name


def test_chain():
    chain = tk.gibbs_chain(np.ones((2, 3)))
    assert (chain.n_spins, chain.n_states, chain.quotient) == (5, 16, True)
    assert chain.energy.shape == chain.law.shape == (16,)
    assert chain.spins().shape == (16, 5)
    assert chain.spins().dtype == np.int8
    for F in (np.ones(16), np.ones((16, 2))):
        assert chain.apply(F).shape == F.shape
    assert chain.transition_matrix().shape == (16, 16)


def test_values():
    W, p_data = np.array([[0.5, -0.2, 0.1], [0.3, 0.4, -0.6]]), np.array([0.4, 0.3, 0.2, 0.1])
    chain = tk.gibbs_chain(W)
    q = tk.q_struct(W, p_data)
    for name in ("value", "signal", "t_obs", "t_obs_bound", "residual"):
        assert type(getattr(q, name)) is float
    assert type(q.iterations) is int
    assert q.g.shape == W.shape
    assert type(tk.observable_variance_time(chain)) is float
    assert type(tk.spectral_gap(chain)) is float
    measure = tk.spectral_measure(chain)
    assert measure.nodes.shape == measure.weights.shape
    for name in ("relevant_gap", "gamma_eff", "gamma_eff_step"):
        assert type(getattr(measure, name)) is float
    assert type(measure.cluster_size) is int
    assert type(tk.window_variance(measure, 10)) is float
    value, gradient = adjoints.q_struct(W, p_data)
    assert isinstance(value, tk.QStruct)
    assert gradient.shape == W.shape
    for function, arguments in ((adjoints.observable_variance_time, (W,)), (adjoints.kl_divergence, (p_data, W))):
        value, gradient = function(*arguments)
        assert type(value) is float
        assert gradient.shape == W.shape


def test_results_are_frozen():
    for result in (tk.GibbsChain, tk.QStruct, tk.SpectralMeasure, tk.MergeTree, tk.MergeEvent, tk.Hypernetwork, tk.QEstimate):
        assert dataclasses.is_dataclass(result)
        assert result.__dataclass_params__.frozen


def test_the_numerics_import_nothing_else():
    code = "import sys, adjoints, thermokernels.public; print(*sorted({'typer', 'rich', 'jax', 'thermokernels_app'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_names_are_imported_when_they_are_asked_for():
    code = (
        "import sys; from thermokernels_app.experiment.running import runner; import thermokernels.common.errors; "
        "print(*{'numba', 'scipy', 'thermokernels.public'} & set(sys.modules)); "
        "import thermokernels as tk; print(tk.q_struct.__name__, tk.quantities.landscape.__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["", "q_struct thermokernels.quantities.landscape"]
    assert {*tk.__all__} <= {*dir(tk)}
    with pytest.raises(AttributeError, match="module 'thermokernels' has no attribute 'q_structure'"):
        _ = tk.q_structure
