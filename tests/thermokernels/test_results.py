"""Results as plain data, tables and text: every public class of results, and no digit that is not certain."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.common.results import Line, Result, plain, required

RNG = np.random.default_rng(3)
W = np.array([[1.0, 0.1, 0.0], [0.2, 1.3, -0.1], [0.0, 0.1, 0.9]])  # three pairs, each of which turns over: several basins
LAW = RNG.dirichlet(np.ones(8))
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def make():
    chain, data = tk.gibbs_chain(W), tk.sample(W + 0.2, n_chains=40, n_sweeps=4, seed=0).visible.reshape(-1, 3)
    samples = tk.sample(W, n_chains=4, n_sweeps=200, seed=0, kernel="single-site")
    estimate, gradient = adjoints.estimate_q(W, data, n_samples=256, n_replicates=64)
    tree, found = tk.merge_tree(chain), tk.track([0.5 * W, W], data)
    right = np.where(np.arange(chain.n_states) % 2, 1.0, -1.0)
    return {
        "AlternatingTime": tk.alternating_variance_time(W),
        "Comparison": tk.compare(samples, W),
        "Diagnosis": tk.diagnose(W, p_data=LAW),
        "EstimatedGradient": gradient,
        "ExchangeableQ": tk.exchangeable_q(tk.exchangeable_chain(np.full((6, 6), 0.1)), np.full(7, 1 / 7)),
        "ExchangeableBlocks": tk.exchangeable_blocks(tk.exchangeable_chain(np.full((6, 6), 0.1))),
        "MergeEvent": tree.events[0],
        "MergeTree": tree,
        "OperationalCurve": tk.operational_curve(chain, LAW, [1, 10, 100]),
        "OperationalQ": tk.operational_q(chain, LAW, 10),
        "ProbedQ": tk.probe_q_struct(W, LAW, n_directions=1, seed=0),
        "ProbedTime": tk.probe_variance_time(chain, n_directions=1, seed=0),
        "QEstimate": estimate,
        "QStruct": tk.q_struct(W, LAW),
        "Resolvent": tk.solve_resolvent(chain, right - chain.law @ right),
        "Samples": samples,
        "SpectralGap": tk.solve_spectral_gap(chain),
        "SpectralMeasure": tk.spectral_measure(chain),
        "Track": found,
        "TrackedModel": found.rows[0],
    }


@pytest.fixture(scope="module")
def results():
    return make()


# What goes in, what a training calls, names of the derivatives of three arrays, and arrays with an entry a model.
NO_RESULTS = {"Cotangents", "QBatch", "ExchangeableChain", "GibbsChain", "Hypernetwork", "LabelledModel", "Model", "Tracker"}


def test_every_public_class_of_results_is_one(results):
    classes = {name for package in (tk, adjoints) for name in package.__all__ if isinstance(getattr(package, name), type)}
    errors = {name for name in classes if name.endswith("Error")}
    assert classes - errors - NO_RESULTS == results.keys()
    assert all(isinstance(result, Result) and type(result).__name__ == name for name, result in results.items())


def significant(number):
    digits = number.lstrip("-").partition("e")[0].replace(".", "").lstrip("0")
    return len(digits)


def test_no_text_of_a_result_has_more_digits_than_are_certain(results):
    for name, result in results.items():
        for text in (repr(result), re.sub(r"<[^>]+>", " ", result._repr_html_())):
            long = [number for number in NUMBER.findall(text) if significant(number) > 6]
            assert not long, (name, long)
        assert repr(result).startswith(f"{name}("), name


@pytest.mark.judges
def test_plain_data_is_json_and_a_table_has_a_row_a_number(results):
    pytest.importorskip("pandas", reason="pandas is not installed: pip install '.[data]'")
    for name, result in results.items():
        document = json.loads(json.dumps(result.as_dict(), allow_nan=False))
        assert document, name
        assert len(result.to_frame()) > 0, name


def test_plain_data_holds_the_numbers_themselves(results):
    q, document = results["QStruct"], results["QStruct"].as_dict()
    assert document["q"] == q.value
    assert document["q_bound"] == q.bound
    assert document["t_obs_steps"] == q.t_obs
    assert document["t_obs_bound_steps"] == q.t_obs_bound
    assert document["asymptotic_variance_bound_steps"] == q.asymptotic_variance_bound
    assert document["g"] == q.g.tolist()
    measure = results["SpectralMeasure"]
    assert measure.as_dict()["gamma_eff_bound_per_sweep"] == pytest.approx(measure.gamma_eff * measure.gamma_eff_error)
    probed = results["ProbedQ"].as_dict()
    assert probed["t_obs_standard_error_steps"] == results["ProbedQ"].time.standard_error
    estimate = results["QEstimate"].as_dict()
    assert estimate["interval"] == list(results["QEstimate"].interval)
    assert estimate["t_obs_interval"] == list(results["QEstimate"].t_obs_interval)
    assert estimate["sentences"] == list(results["QEstimate"].sentences)


@pytest.mark.judges
def test_tables_hold_the_arrays(results):
    pytest.importorskip("pandas", reason="pandas is not installed: pip install '.[data]'")
    curve = results["OperationalCurve"]
    frame = curve.to_frame()
    assert frame.index.names == ["window", "burn_in"]
    np.testing.assert_array_equal(frame["value"], curve.value.ravel())
    measure = results["SpectralMeasure"]
    np.testing.assert_array_equal(measure.to_frame()["weight"], measure.weights)
    tree = results["MergeTree"].to_frame()
    np.testing.assert_array_equal(tree["barrier"], [event.barrier for event in results["MergeTree"].events])
    spins = results["Samples"].to_frame()
    assert spins.loc[(2, 5)].tolist() == results["Samples"].trace()[2, 5].tolist()
    value = results["QStruct"].to_frame().loc["t_obs"]
    assert (value["value"], value["unit"], value["error"]) == (results["QStruct"].t_obs, "steps", results["QStruct"].t_obs_bound)


@pytest.mark.judges
def test_samples_and_replicates_become_arviz_trees(results):
    pytest.importorskip("arviz_base", reason="arviz-base is not installed: pip install '.[data]'")
    samples = tk.sample(W, n_chains=4, n_sweeps=6, thin=2, burn_in=3, packed=True, seed=0)
    posterior = samples.to_datatree()["posterior"]
    assert posterior["visible"].dims == ("chain", "draw", "visible_spin")
    np.testing.assert_array_equal(np.concatenate([posterior["visible"], posterior["hidden"]], axis=2), samples.trace())
    np.testing.assert_array_equal(posterior["sweep"], samples.sweeps)
    tree = results["QEstimate"].to_datatree()
    assert tree["posterior"]["t_obs"].dims[:2] == ("chain", "draw")
    np.testing.assert_array_equal(tree["posterior"]["t_obs"].values[0], results["QEstimate"].replicates)


@dataclasses.dataclass(frozen=True, repr=False)
class Measured(Result):
    value: float
    bound: float
    _lines = (Line("length_steps", "value", "steps", bound="bound"),)


@pytest.mark.parametrize("exponent", range(-9, 0))
def test_the_digits_shown_are_right_whatever_the_error_is(exponent):
    """The value is off by all of its bound, upwards or downwards: what is shown is right to one unit of its last digit."""
    exact, bound = 123.456789, 123.456789 * 10.0**exponent
    for sign in (-1, 1):
        shown = re.search(r"length (\S+) steps", repr(Measured(exact + sign * bound, bound)))[1]
        mantissa, _, power = shown.partition("e")
        unit = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
        assert abs(float(shown) - exact) <= unit * (1 + 1e-9)


@pytest.mark.parametrize("bound", [np.inf, np.nan])
def test_a_bound_that_is_not_there_is_said(bound):
    result = Measured(2.0, bound)
    assert result.as_dict() == {"length_steps": 2.0, "length_bound_steps": None}
    assert "no bound" in result._repr_html_()


class Unresolved(Measured):
    @property
    def lost(self):
        raise tk.UnresolvedError("the gap is below rounding")

    _lines = (Line("length_steps", "value", "steps", bound="lost"),)


def test_a_bound_that_cannot_be_had_has_its_reason():
    result = Unresolved(2.0, 0.1)
    assert result.as_dict() == {"length_steps": 2.0, "length_bound_steps": None, "length_bound_reason": "the gap is below rounding"}
    assert "the gap is below rounding" in result._repr_html_()


def test_a_missing_package_is_one_sentence(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ModuleNotFoundError, match="a table needs pandas, which is not installed: pip install pandas"):
        results["QStruct"].to_frame()
    with pytest.raises(ModuleNotFoundError, match="a DataTree needs arviz_base, which is not installed: pip install arviz-base"):
        results["Samples"].to_datatree()
    with pytest.raises(ModuleNotFoundError, match=r"nowhere_at_all, which is not installed: pip install '.*report"):
        required("nowhere_at_all", "a picture", "'thermokernels[report]'")


def test_what_has_no_place_in_plain_data_is_an_error():
    assert plain((np.float64(1.5), np.nan, {"a": np.int64(2)}, None, True)) == [1.5, None, {"a": 2}, None, True]
    with pytest.raises(TypeError, match="not JSON serializable"):
        plain(object())
