"""The diagnosis against dense references of every number it shows, and on models that float64 does not resolve."""

import dataclasses
import json
import re

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common import footprint, memory
from thermokernels.diagnosis import correlations, result, words
from thermokernels.quantities.autocorrelation_times.autocorrelation import autocorrelation_times as own_times

RNG = np.random.default_rng(3)
W = RNG.normal(size=(3, 2))
B, C = RNG.normal(size=3), RNG.normal(size=2)
LAW = tk.visible_law(0.6 * W)
PLANTED = 0.8 * np.ones((3, 3)) + 0.1 * RNG.normal(size=(3, 3))


def dense_tau(W, b, c, function):
    """1 + 2 sum rho by eigendecomposition of the symmetrised matrix on all states."""
    chain = tk.gibbs_chain(W, b, c, quotient=False)
    P, psi = chain.transition_matrix(), chain.root_law
    values, vectors = np.linalg.eigh(psi[:, None] * P / psi)
    f = function(chain.spins().astype(float), chain)
    weights = (vectors.T @ (psi * (f - chain.law @ f)))[:-1] ** 2
    return float(weights @ ((1 + values[:-1]) / (1 - values[:-1])) / weights.sum()), 1 - values[-2]


def checked(number, expected, relative=1e-9):
    assert number.value == pytest.approx(expected, rel=relative, abs=0)
    if number.error is not None:
        assert abs(number.value - expected) <= number.error + 1e-11 * abs(expected)


@pytest.mark.small
@pytest.mark.parametrize("fields", [(None, None), (B, C)], ids=["pairs", "fields"])
def test_every_number_against_dense_references(fields):
    d = tk.diagnose(W, *fields, p_data=LAW, window=30)
    N = 5
    chain = tk.gibbs_chain(W, *fields)
    tau_energy, gap = dense_tau(W, *fields, lambda spins, chain: chain.energy)
    checked(d.tau_energy, tau_energy)
    checked(d.tau_magnetisation, dense_tau(W, *fields, lambda spins, chain: spins.sum(axis=1))[0])
    taus = np.array([[dense_tau(W, *fields, lambda s, chain, i=i, j=j: s[:, i] * s[:, 3 + j])[0] for j in range(2)] for i in range(3)])
    checked(d.tau_observable, taus.max())
    assert d.slowest_observable == np.unravel_index(taus.argmax(), taus.shape)
    checked(d.gap, gap)
    checked(d.gap_of_pairs, tk.spectral_gap(chain))
    assert 0 < d.gap_bound.value <= d.gap_of_pairs.value
    measure = tk.spectral_measure(chain)
    checked(d.relevant_gap, measure.relevant_gap)
    checked(d.gamma_eff, measure.gamma_eff)
    q = tk.q_struct(W, LAW, 30, b=fields[0], c=fields[1])
    checked(d.t_obs, q.t_obs)
    checked(d.signal, q.signal)
    checked(d.q, q.value)
    checked(d.q_operational, q.signal / tk.window_variance(measure, 30 * N))
    checked(d.window_for_unit_q, 30 / q.value)
    checked(tk.diagnose(W, *fields, p_data=LAW, window=d.window_for_unit_q.value).q, 1.0)
    variance = sum(chain.law @ ((f := s * t) - chain.law @ f) ** 2 for s in chain.spins()[:, :3].T * 1.0 for t in chain.spins()[:, 3:].T)
    checked(d.tau_gradient, 2 * q.t_obs / variance - 1)
    assert (d.quotient, d.has_fields, d.has_data) == (fields[0] is None, fields[0] is not None, True)


def test_basins_and_passages():
    d = tk.diagnose(PLANTED, b=[0.05, 0.0, 0.0], budget=50)
    chain = tk.gibbs_chain(PLANTED, b=[0.05, 0.0, 0.0])
    (event,) = tk.merge_tree(chain).events
    (crossing,) = d.crossings
    assert (crossing.mass, crossing.deeper_mass, crossing.barrier) == (event.dying_mass, event.surviving_mass, event.barrier)
    checked(crossing.out, tk.mean_first_passage(chain, event.dying, event.surviving), 1e-8)
    checked(crossing.back, tk.mean_first_passage(chain, event.surviving, event.dying), 1e-8)
    checked(crossing.relevance, tk.relevance(chain, event.dying))
    assert crossing.crossable is (max(crossing.out.value, crossing.back.value) <= 50 * 6)
    assert crossing.seen is (crossing.relevance.value >= 0.03)
    slowest = max(crossing.out.value, crossing.back.value) / 6
    assert tk.diagnose(PLANTED, b=[0.05, 0.0, 0.0], budget=1.001 * slowest).crossings[0].crossable is True
    assert tk.diagnose(PLANTED, b=[0.05, 0.0, 0.0], budget=0.999 * slowest).crossings[0].crossable is False


def test_sentences_say_what_matters():
    stuck = tk.diagnose(PLANTED, p_data=tk.visible_law(0.9 * PLANTED))
    assert stuck.sentences[0].startswith(("Yes", "No"))
    assert any("(it tells x from -x) is invisible to the gradient" in sentence for sentence in stuck.sentences)
    assert any("Do not judge by the magnetisation" in sentence for sentence in stuck.sentences)
    assert any("one basin only, up to x and -x" in sentence for sentence in stuck.sentences)

    factor = stuck.q.value
    long = tk.diagnose(PLANTED, p_data=tk.visible_law(0.9 * PLANTED), window=200 / factor)
    assert long.sentences[0].startswith("Yes, it can be trained: ")
    assert ", 2 times as long as Q = 1 needs" in long.sentences[0]
    short = tk.diagnose(PLANTED, p_data=tk.visible_law(0.9 * PLANTED), window=50 / factor)
    assert "too short by a factor of 2:" in short.sentences[0]
    assert short.sentences[1].startswith("What stops it is the ")

    assert "nothing left to learn" in tk.diagnose(PLANTED, p_data=tk.visible_law(PLANTED)).sentences[0]
    assert "needs a data law" in tk.diagnose(PLANTED).sentences[0]
    two = tk.diagnose(2 * PLANTED, b=[0.01, 0.0, 0.0])
    assert any(sentence.startswith("Two basins hold") and "more than the budget of 250" in sentence for sentence in two.sentences)
    assert any("the gradients of the fields b and c are not in them" in sentence for sentence in two.sentences)


def test_what_is_merely_constant_is_not_blamed_on_freezing():
    # one pair of spins: a step forgets everything, but v h is -1 with probability exp(-80) only
    d = tk.diagnose([[40.0]])
    assert d.gap_of_pairs.value == pytest.approx(1)
    assert d.tau_observable.value is None
    assert d.tau_observable.certainty == "not defined: no v_i h_j varies under pi in float64"
    assert any(
        s.startswith("Constant under pi, to float64, so that nothing is correlated: ") and "of the observables" in s for s in d.sentences
    )
    assert not any("of the observables" in s for s in d.sentences if s.startswith("Not resolved"))


def test_numbers_carry_proven_errors():
    d = tk.diagnose(W, p_data=LAW)
    for number in (d.gap, d.gap_of_pairs, d.relevant_gap, d.t_obs, d.signal, d.q, *(c.relevance for c in d.crossings)):
        assert 0 < number.error <= 1e-9 * max(number.value, 1e-3)
    assert all(0 < crossing.barrier_error < 1e-13 for crossing in d.crossings)


@pytest.mark.parametrize("scale", [0.0, 1e-8, 2.0, 20.0, 60.0, 400.0, 1e5])
def test_slow_models_are_diagnosed_as_far_as_float64_goes(scale):
    d = tk.diagnose(scale * W, p_data=LAW)
    document = json.loads(json.dumps(d.as_dict(), allow_nan=False))
    numbers = [getattr(d, field.name) for field in dataclasses.fields(d) if isinstance(getattr(d, field.name), result.Number)]
    assert len(numbers) == 16
    for number in numbers:
        assert number.certainty
        assert (number.value is not None) or number.certainty.startswith(("not resolved: ", "not defined: ", "no window"))
    if scale <= 60:
        undefined = [d.tau_energy, d.window_for_unit_q] if scale == 0 else []
        assert [number for number in numbers if number.value is None] == undefined
        assert not any(sentence.startswith("Not resolved in float64") for sentence in d.sentences)
    else:
        assert any(number.value is None for number in numbers)
        assert any(sentence.startswith("Not resolved in float64") for sentence in d.sentences)
    assert document["n_minima"] >= 1
    assert "<table>" in d._repr_html_()
    assert repr(d).count("\n") == 0


def test_as_dict_gives_times_in_both_units_and_reasons_for_nulls():
    document = tk.diagnose(W).as_dict()
    assert document["tau_energy"]["value_sweeps"] == document["tau_energy"]["value"] / 5
    assert document["q"] == {"value": None, "unit": "", "error": None, "certainty": "needs a data law", "value_reason": "needs a data law"}
    assert "1 + 2 sum" in document["autocorrelation_convention"]
    assert document["sentences"]
    json.dumps(document, allow_nan=False)


def test_repr_and_html():
    d = tk.diagnose(W, p_data=LAW)
    assert repr(d).startswith("Diagnosis(3 + 2 spins, 16 pairs {x, -x}: relevant gap ")
    html = d._repr_html_()
    assert html.count("<table>") == 1 + bool(d.crossings)
    assert "tau of the magnetisation (on the full chain: it is odd)" in html
    with pytest.raises(dataclasses.FrozenInstanceError):
        d.window = 1.0


def test_a_model_too_large_is_told_what_to_ask_instead(monkeypatch):
    with pytest.raises(tk.ModelTooLargeError, match=r"40 visible and 40 hidden spins would take .* GiB .* such as W\[:\d+, :\d+\]"):
        tk.diagnose(np.ones((40, 40)))
    with pytest.raises(tk.ModelTooLargeError, match=r"5000 visible and 6 hidden spins .* at any size, .* or draw samples with sample"):
        tk.diagnose(np.ones((5000, 6)))  # 2**5005 is no float
    monkeypatch.setattr(memory, "available", lambda: footprint.diagnosis(4, 4, False))
    with pytest.raises(tk.ModelTooLargeError, match=r"such as W\[:4, :4\]"):
        tk.diagnose(np.ones((5, 6)))
    monkeypatch.setattr(memory, "available", lambda: 1)
    with pytest.raises(tk.ModelTooLargeError, match=r"such as W\[:1, :1\]"):
        tk.diagnose(np.ones((2, 3)))
    monkeypatch.setattr(memory, "available", lambda: 300_000)
    with pytest.raises(tk.ModelTooLargeError, match=r"W\[:\d, :\d\], or for its gap and basins alone with spectral_gap"):
        tk.diagnose(np.ones((5, 6)))


@pytest.mark.small
@pytest.mark.parametrize(
    ("arguments_", "message"),
    [
        ({"W": [1.0]}, "W must have shape"),
        ({"W": W, "b": [1.0]}, r"b must have shape \(3,\)"),
        ({"W": W, "p_data": [0.5, 0.5]}, r"p_data must have shape \(8,\)"),
        ({"W": W, "window": 0}, "window must be a positive, finite number of sweeps"),
        ({"W": W, "budget": -1}, "budget must be a positive, finite number of sweeps"),
    ],
)
def test_bad_arguments(arguments_, message):
    with pytest.raises(ValueError, match=message):
        tk.diagnose(**arguments_)


def test_a_window_below_one_step_is_refused():
    with pytest.raises(ValueError, match=r"^window must be at least one step, 0.25 sweeps of this model's 4 spins; got 0.05$"):
        tk.diagnose([[0.5, -0.2], [0.1, 0.3]], window=0.05)
    assert tk.diagnose([[0.5, -0.2], [0.1, 0.3]], window=0.25).window == 0.25


def test_sentences_show_what_the_table_shows():
    """A number that is hardly certain has no more digits in a sentence than in its row."""
    data = tk.law_of_samples(tk.sample(PLANTED, n_chains=50, n_sweeps=1, burn_in=200, seed=0).visible[-1])
    exact = tk.diagnose(PLANTED, p_data=data, window=3.0)
    shares = {
        "gap": 0.3, "relevant_gap": 0.7, "q": 0.02, "q_operational": 0.3, "window_for_unit_q": 0.02, "tau_observable": 0.04,
        "tau_magnetisation": 0.03, "tau_gradient": 0.02, "tau_energy": 0.2,
    }  # fmt: skip
    numbers = {name: getattr(exact, name) for name in shares}
    vague = {name: dataclasses.replace(number, error=shares[name] * abs(number.value)) for name, number in numbers.items()}
    changed = dataclasses.replace(exact, **vague)
    said = " ".join(changed.sentences)
    cells = {cell for row in words.rows(changed) for cell in row}
    cells |= {cell for row in words.crossing_rows(changed) for cell in row}
    assert said != " ".join(exact.sentences)
    given = {"3", "0.004", "250", f"{exact.window:g}"}
    counts = {str(number) for number in range(20)}
    derived = {words._derived(1 / exact.q.value, changed.q)}
    tau, q = exact.tau_gradient.value, exact.q.value
    derived.add(words._derived(q * (tau + 1) / exact.n_spins, changed.q, changed.tau_gradient))
    derived |= {words.short(crossing.mass + crossing.deeper_mass) for crossing in exact.crossings}
    allowed = cells | given | counts | derived
    for number in re.findall(r"(?<![\w.])(?:at most )?\d[\d.]*(?:e[+-]\d+)?(?!\w)", said):
        assert number.rstrip(".") in allowed, (number, said)
    assert "at most" in said


@pytest.mark.parametrize("fields", [(None, None), (B, C)], ids=["pairs", "fields"])
def test_the_alternating_scan_against_dense_references(fields):
    """The kernel of a model that scikit-learn, rbms or thrml made: times of records, gaps of one layer."""
    model = tk.Model(W, *fields, kernel="alternating")
    d = tk.diagnose(model, p_data=LAW, window=30)
    assert d.kernel == "alternating"
    assert d.steps_per_sweep == 1
    chain = tk.gibbs_chain(model, kernel="alternating", quotient=False)
    P, law, spins = chain.transition_matrix(), chain.law, chain.spins().astype(float)
    solver = np.linalg.inv(np.eye(32) - P + law)
    products = (spins[:, :3, None] * spins[:, None, 3:]).reshape(32, -1)

    def sums(functions):
        centred = functions - law @ functions
        return (law[:, None] * centred * (solver @ centred)).sum(axis=0), law @ centred**2

    checked(d.t_obs, sums(products)[0].sum())
    totals, variances = sums(np.stack([spins.sum(axis=1), chain.energy], axis=1))
    for number, expected in zip((d.tau_magnetisation, d.tau_energy), 2 * totals / variances - 1, strict=True):
        checked(number, expected)
    times = 2 * sums(products)[0] / sums(products)[1] - 1
    checked(d.tau_observable, times.max())
    assert d.slowest_observable == divmod(int(times.argmax()), 2)
    moduli = np.sort(np.abs(np.linalg.eigvals(P)))[::-1]
    checked(d.gap, 1 - moduli[1])
    assert d.gap_bound.value <= d.gap_of_pairs.value
    checked(d.q_operational, tk.operational_q(tk.gibbs_chain(model, kernel="alternating"), LAW, 30).value)
    json.dumps(d.as_dict(), allow_nan=False)
    assert "alternating kernel, a step is a sweep" in d._repr_html_()


@pytest.mark.small
def test_the_kernel_of_a_diagnosis():
    d = tk.diagnose(-PLANTED, b=[0.1, 0.0, 0.0], kernel="alternating")
    assert d.crossings
    assert all(crossing.crossable is None and crossing.out.value is None for crossing in d.crossings)
    assert any("more basins hold" in sentence for sentence in d.sentences)
    assert tk.diagnose(W).kernel == "single-site"
    assert tk.diagnose(tk.Model(W, kernel="two-block")).kernel == "single-site"
    assert tk.diagnose(tk.Model(W, kernel="alternating"), kernel="single-site").kernel == "single-site"
    with pytest.raises(ValueError, match="kernel must be one of 'single-site', 'alternating'; got 'two-block'"):
        tk.diagnose(W, kernel="two-block")
    with pytest.raises(ValueError, match="window must be at least one step, 1 sweeps"):
        tk.diagnose(W, kernel="alternating", window=0.5)


@pytest.mark.small
def test_an_ising_matrix_is_asked_about():
    symmetric = np.array([[0.0, 0.5, -0.3], [0.5, 0.0, 0.2], [-0.3, 0.2, 0.0]])
    said = tk.diagnose(symmetric).sentences
    assert any("as the couplings among 3 spins of an Ising model are" in sentence for sentence in said)
    for other in (symmetric + np.eye(3), symmetric[:, :2], np.zeros((3, 3)), symmetric + np.triu(np.ones((3, 3)), 1)):
        assert not tk.diagnose(other).misreadings


@pytest.mark.small
def test_a_matrix_that_may_lie_on_its_side_is_asked_about():
    wide = np.array([[0.5, -0.3, 0.2], [0.1, 0.4, -0.2]])
    (said,) = tk.diagnose(wide).misreadings
    assert "it was read as 2 visible and 3 hidden spins +1 and -1" in said
    assert said in tk.diagnose(wide).sentences
    assert "by from_scikit_learn" in said
    assert not tk.diagnose(wide.T).misreadings
    assert not tk.diagnose(wide, p_data=np.full(4, 0.25)).misreadings  # the samples show which side they are of
    for made in (tk.Model(wide, [0.1, 0.0]), tk.Model(wide, hidden=["a", "b", "c"]), tk.Model(wide, kernel="alternating")):
        assert not tk.diagnose(made).misreadings


@pytest.mark.small
@pytest.mark.parametrize("fields", [(None, None), (B, C)], ids=["pairs", "fields"])
def test_times_of_observables_from_what_has_been_solved_for_t_obs(fields, monkeypatch):
    """As chains beyond state reduction have them, against a solve of their own."""
    own = tk.diagnose(W, *fields)
    monkeypatch.setattr(correlations.reduced_resolvent, "applies_to", lambda chain: False)
    asked = []

    def times_of(chain, functions, *how, **more):
        asked.append(functions.shape[1])
        return own_times(chain, functions, *how, **more)

    monkeypatch.setattr(correlations, "autocorrelation_times", times_of)
    shared = tk.diagnose(W, *fields)
    assert asked == [1, 1]  # energy and magnetisation alone
    assert shared.slowest_observable == own.slowest_observable
    assert shared.tau_observable.value == pytest.approx(own.tau_observable.value, rel=1e-12, abs=0)
    assert shared.tau_gradient.value == pytest.approx(own.tau_gradient.value, rel=1e-12, abs=0)
    assert 0.0 < shared.tau_observable.error < 1e-9 * shared.tau_observable.value


@pytest.mark.parametrize("kernel", ["single-site", "alternating"])
def test_every_part_says_that_it_begins_and_counts_to_its_end(kernel):
    told = []
    tk.diagnose(W, B, C, kernel=kernel, progress=lambda *part: told.append(part))
    counted = {name: [part[1:] for part in told if part[0] == name] for name, *_ in told}
    spectrum = [] if kernel == "alternating" else ["the observables", "the slow modes", "the spectral measure"]
    assert list(counted) == [*spectrum, "the gaps", "autocorrelation times", "basins and the passages between them", "done"]
    assert all(counts[0][0] == 0 for name, counts in counted.items() if name not in ("the observables", "done"))
    assert counted["done"] == [(1, 1)]
    if kernel == "single-site":
        n_passages = len(tk.merge_tree(tk.gibbs_chain(W, B, C)).events) * 2
        assert counted["the observables"][-1] == (W.size, W.size)
        assert counted["basins and the passages between them"][1:] == [(k, n_passages) for k in range(n_passages + 1)]
