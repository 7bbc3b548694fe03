"""Whatever is handed to a public function, it gives a right answer or one sentence that says which argument is wrong.

The right answers are told by their invariances: spins renamed, gauges changed, the two layers exchanged.
"""

import inspect
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adjoints
import thermokernels as tk
from thermokernels.model.kernels.registry import KERNELS

NAN, INF = float("nan"), float("inf")
CHAIN = tk.gibbs_chain([[0.5, -0.25], [0.75, 1.0]])
MEASURE = tk.spectral_measure(CHAIN)
NETWORK = tk.Hypernetwork.from_parameters(np.linspace(-1, 1, 18), (2, 2, 1, 2, 2))
W = np.array([[0.5, -0.25], [0.75, 1.0]])
LAW = np.array([0.4, 0.3, 0.2, 0.1])
SAMPLES = [[1, -1], [1, 1], [-1, 1]]
LUMPED = tk.exchangeable_chain([[0.5, 0.5], [0.5, 0.5]])

# Every public function with arguments that it accepts.
CALLS = {
    tk.gibbs_chain: {"W": W, "b": [0.1, 0.2], "c": [0.3, 0.4], "quotient": None, "kernel": "single-site"},
    tk.q_struct: {
        "W": W, "p_data": LAW, "window": 100.0, "method": "auto", "rtol": 1e-10, "b": [0.1, 0.2], "c": [0.3, 0.4], "executor": None,
        "kernel": "single-site", "observables": "products", "units": "pm1", "fields": False, "accuracy": 1e-8,
    },
    tk.observable_variance_time: {"chain": CHAIN, "method": "auto", "rtol": 1e-10, "executor": None, "accuracy": 1e-8},
    tk.asymptotic_variance: {"chain": CHAIN, "method": "auto", "rtol": 1e-10, "executor": None},
    tk.alternating_variance_time: {
        "W": W, "b": [0.1, 0.2], "c": [0.3, 0.4], "observables": "products", "units": "pm1", "fields": False, "rtol": 1e-10,
        "progress": None,
    },
    tk.autocorrelation_function: {"chain": CHAIN, "n_lags": 5},
    tk.operational_q: {
        "chain": CHAIN, "p_data": LAW, "window": 10.0, "burn_in": 1.0, "start": "uniform", "n_chains": 2, "n_data": 50,
        "hidden": "expected", "method": "auto",
    },
    tk.operational_curve: {
        "chain": CHAIN, "p_data": LAW, "windows": [1.0, 10.0], "burn_ins": [0.0, 1.0], "start": "uniform", "n_chains": 2, "n_data": 50,
        "hidden": "expected", "method": "auto",
    },
    tk.exchangeable_chain: {"W": W, "b": [0.1, 0.2], "c": [0.3, 0.4]},
    tk.exchangeable_blocks: {"chain": LUMPED, "kernel": "two-block"},
    tk.exchangeable_q: {"chain": LUMPED, "data": SAMPLES, "window": 100.0, "rtol": 1e-10},
    tk.pseudo_likelihood: {"model": W, "samples": SAMPLES},
    tk.track: {
        "history": [W], "data": SAMPLES, "window": 100.0, "kernel": "single-site", "precision": None, "budget": None, "n_replicates": None,
        "seed": 0, "executor": None,
    },
    tk.resolvent: {"chain": CHAIN, "F": np.arange(8.0), "method": "auto", "rtol": 1e-10},
    tk.solve_resolvent: {"chain": CHAIN, "F": np.arange(8.0), "method": "auto", "rtol": 1e-10},
    tk.spectral_measure: {"chain": CHAIN},
    tk.spectral_gap: {"chain": CHAIN},
    tk.solve_spectral_gap: {"chain": CHAIN, "sharp": True},
    tk.window_variance: {"measure": MEASURE, "K": 10},
    tk.merge_tree: {"chain": CHAIN},
    tk.hitting_times: {"chain": CHAIN, "target": [0, 3], "method": "auto"},
    tk.mean_first_passage: {"chain": CHAIN, "start": [1], "target": [0, 3], "method": "auto"},
    tk.gap_lower_bound: {"chain": CHAIN},
    tk.conductance: {"chain": CHAIN, "mask": [0, 3]},
    tk.relevance: {"chain": CHAIN, "mask": [0, 3], "span": np.eye(4)},
    tk.observable_span: {"chain": CHAIN, "span": np.eye(4)},
    tk.visible_law: {"W": W, "b": [0.1, 0.2], "c": [0.3, 0.4]},
    tk.kl_divergence: {"p_data": LAW, "W": W, "b": [0.1, 0.2], "c": [0.3, 0.4]},
    tk.from_zero_one: {"weights": W, "visible_bias": [0.1, 0.2], "hidden_bias": [0.3, 0.4]},
    tk.from_ising: {"h": {"a": 0.5}, "J": {("a", "x"): 1.0}, "visible": ["a", "b"], "hidden": ["x"]},
    tk.law_of_samples: {"samples": [[1, -1], [1, 1]], "weights": [1.0, 3.0]},
    tk.diagnose: {"W": W, "b": [0.1, 0.2], "c": [0.3, 0.4], "p_data": LAW, "window": 100.0, "budget": 250.0, "kernel": "alternating"},
    tk.couplings: {"network": NETWORK, "u": [1.0, 0.0]},
    tk.sample: {
        "W": W, "b": [0.1, 0.2], "c": [0.3, 0.4], "n_chains": 3, "n_sweeps": 4, "kernel": "two-block", "burn_in": 1, "thin": 2, "seed": 0,
        "start": [1, -1, 1, -1], "packed": False, "threads": 1, "progress": None,
    },
    adjoints.q_struct: {
        "W": W, "p_data": LAW, "window": 100.0, "method": "auto", "rtol": 1e-10, "b": [0.1, 0.2], "c": [0.3, 0.4], "fields": False,
        "executor": None, "kernel": "single-site", "accuracy": 1e-6,
    },
    adjoints.observable_variance_time: {
        "W": W, "b": [0.1, 0.2], "c": [0.3, 0.4], "method": "auto", "rtol": 1e-10, "fields": False, "executor": None,
        "kernel": "single-site", "accuracy": 1e-6,
    },
    adjoints.asymptotic_variance: {
        "W": W, "b": [0.1, 0.2], "c": [0.3, 0.4], "method": "auto", "rtol": 1e-10, "fields": False, "executor": None,
        "kernel": "single-site",
    },
    adjoints.exchangeable_variance_time: {"chain": LUMPED, "rtol": 1e-10},
    adjoints.exchangeable_asymptotic_variance: {"chain": LUMPED, "rtol": 1e-10},
    adjoints.exchangeable_q: {"chain": LUMPED, "data": SAMPLES, "window": 100.0, "rtol": 1e-10},
    adjoints.kl_divergence: {"p_data": LAW, "W": W, "b": [0.1, 0.2], "c": [0.3, 0.4], "fields": False},
    adjoints.couplings_vjp: {"network": NETWORK, "u": [1.0, 0.0], "ct_W": W},
    adjoints.couplings_jacobian: {"network": NETWORK, "u": [1.0, 0.0]},
}  # fmt: skip
# Those that take other libraries' models, files, random probes or the number of threads are tested with what they serve.
ELSEWHERE = {
    *("from_dimod", "from_thrml", "from_graph", "from_scikit_learn", "from_rbms", "load_model", "load_history"),
    *("compare", "selftest"),  # a trace, and no argument that could be an array
    *("estimate_q", "estimate_q_and_gradient"),  # a run of chains for each argument: their tests have a table of wrong ones
    *(
        "probe_variance_time",
        "probe_q_struct",
        "probe_variance_time_and_gradient",
        "probe_q_struct_and_gradient",
        "get_threads",
        "set_threads",
    ),
}
NAMES = {f"{function.__module__.split('.')[0]}.{function.__name__}": function for function in CALLS}
KERNEL_NAMES = ", ".join(map(repr, KERNELS))


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


GARBAGE = [
    None, True, False, 0, 1, -1, 3, 2**62, 2**64, 10**400, 0.0, -0.5, 1e-320, 1e308, NAN, INF, -INF, 1j, "", "no", "auto", b"x", object(),
    Unprintable(), len,
    [], [[]], [[], []], [[1.0], [1.0, 2.0]], {},
    {"a": NAN}, {("a",): 1}, {1, 2}, (x for x in ()), [None], [True, False],
    [NAN, 0.0],
    [[NAN, 1.0], [0.0, 1.0]], [[INF, 1.0], [0.0, 1.0]], [1e308, 1e308], [[1e308, 1e308], [1e308, 1e308]],
    [-1, 5], [[0, 1], [2, 3]],
    np.zeros(0), np.zeros((0, 2)), np.zeros((2, 0)), np.zeros((2, 2, 2)), np.array(1.0), np.array([[1 + 1j]]), np.array(["a"]),
    np.ones(1000),
    np.array([object()]), np.array([[True, False], [False, True]]), np.zeros((2, 2), dtype="M8[s]"), np.zeros(2, dtype="f8,i4"),
    np.ma.masked_array([1.0, 2.0], [True, False]), np.float32("nan"), np.int8(-128), np.str_("cg"), np.array([0, 99]),
    np.full(4, 0.25, dtype=np.float16), np.full((2, 2), 5e-324), np.full((2, 2), 200.0), np.zeros((40, 40)),
]  # fmt: skip


def outcome(function, arguments):
    """The answer, or the sentence that refused the arguments; every other end, warnings among them, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return function(**arguments), None
        except (ValueError, tk.NumericalError) as error:
            return None, str(error)


def numbers_in(answer):
    if isinstance(answer, tuple):
        return [number for part in answer for number in numbers_in(part)]
    if isinstance(answer, tk.QStruct):
        return [answer.value, answer.signal, answer.t_obs, *answer.g.ravel()]
    if isinstance(answer, tk.SpectralMeasure):
        return [*answer.nodes, *answer.weights, answer.relevant_gap, answer.gamma_eff]
    if isinstance(answer, tk.GibbsChain):
        return [*answer.energy, *answer.law]
    return [*np.ravel(answer)] if isinstance(answer, float | np.ndarray) else []


def test_every_public_function_is_here():
    public = [getattr(module, name) for module in (tk, adjoints) for name in module.__all__]
    functions = {function for function in public if inspect.isfunction(function)}
    assert {function.__name__ for function in functions - set(CALLS)} == ELSEWHERE
    for function, arguments in CALLS.items():
        parameters = [name for name in inspect.signature(function).parameters if name not in {"progress", "checkpoint"} - set(arguments)]
        assert parameters == list(arguments)
        assert outcome(function, arguments)[1] is None


@pytest.mark.parametrize("name", NAMES)
def test_any_argument_can_be_anything(name):
    """One argument at a time is replaced; a refusal names it, or the model that no longer fits it."""
    function = NAMES[name]
    refused = 0
    for argument in CALLS[function]:
        for value in GARBAGE:
            if (function, argument) in ((tk.sample, "burn_in"), (tk.sample, "threads")) and type(value) is int and value == 2**62:
                continue  # a burn-in of that length is what was asked for; of threads a pool starts no more than there is work
            if argument == "progress" and value is len:
                continue  # a function, and what it raises is the caller's own
            answer, sentence = outcome(function, CALLS[function] | {argument: value})
            case = f"{name}, {argument} = {type(value).__name__}: {sentence}"
            if sentence is None:
                assert np.isfinite(numbers_in(answer)).all(), case
                continue
            refused += 1
            assert "\n" not in sentence, case
            assert 0 < len(sentence) < 400, case
            words = [
                *CALLS[function],
                "T_O",
                "replicates",
                "gap",
                "states",
                "spins",
                "hitting",
                "h and J",
                "W must",
                "W, b and c must",
            ]  # a large W no longer fits the fields, say
            assert any(word in sentence for word in words), case
    assert refused > len(CALLS[function])


COLD = {"W": 200 * W, "chain": tk.gibbs_chain(200 * W), "p_data": np.array([1 - 3e-300, 1e-300, 1e-300, 1e-300])}


@pytest.mark.parametrize("name", NAMES)
def test_the_error_state_of_the_caller_does_not_matter(name):
    """Probabilities of a cold model underflow, which is harmless: the same answer with ``np.seterr(all="raise")``."""
    function = NAMES[name]
    arguments = CALLS[function] | {key: value for key, value in COLD.items() if key in CALLS[function]}

    def ask():
        answer, sentence = outcome(function, arguments)
        if isinstance(answer, tk.QStruct):
            return [*numbers_in(answer), answer.bound, answer.t_obs_bound], sentence
        if isinstance(answer, tk.GibbsChain):
            return [*numbers_in(answer), *answer.apply(answer.energy), *np.ravel(answer.transition_matrix()), *answer.escape], sentence
        return numbers_in(answer), sentence

    expected, sentence = ask()
    if function is tk.observable_variance_time:
        with np.errstate(all="raise"), pytest.raises(FloatingPointError):
            inspect.unwrap(function)(**arguments)  # what it guards against
    before = np.seterr(all="raise")
    try:
        found, sentence_there = ask()
        assert set(np.geterr().values()) == {"raise"}  # and it is left as it was
    finally:
        np.seterr(**before)
    assert sentence_there == sentence
    np.testing.assert_array_equal(found, expected)


# Models at random: shapes, dtypes, memory orders, ties, and sizes from subnormal to extremely slow.


def _as_given(weights, dtype, order):
    if order == "strided":
        wide = np.zeros((weights.shape[0], 2 * weights.shape[1]), dtype)
        wide[:, ::2] = weights
        return wide[:, ::2]
    if order == "backwards":
        return weights[::-1].astype(dtype)[::-1]
    if order == "lists":
        return weights.astype(dtype).tolist()
    array = np.array(weights, dtype=dtype, order=order)
    array.flags.writeable = False
    return array


@st.composite
def models(draw):
    """Couplings as a caller may hold them, the same in float64, and fields or none."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = draw(st.sampled_from([0.0, 5e-324, 1e-300, 1e-160, 1e-20, 1e-8, 0.25, 1.0, 3.0]))
    levels = draw(st.lists(st.sampled_from([-2, -1, 0, 1, 1, 2]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    plain = size * np.array(levels, dtype=float).reshape(shape)  # many ties, and plateaus
    if draw(st.booleans()):
        plain *= 1 + draw(st.sampled_from([1e-15, 1e-3, 0.3])) * np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape)
    dtype = draw(st.sampled_from([">f8", "f8", "f4", "i8", "i1"]))
    given_as = _as_given(
        np.round(plain) if dtype[0] == "i" else plain, dtype, draw(st.sampled_from(["C", "F", "strided", "backwards", "lists"]))
    )
    fields = None
    if draw(st.booleans()):
        fields = [draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1e-300]), min_size=n, max_size=n)) for n in shape]
    return given_as, np.asarray(given_as, dtype=np.float64), fields


def quantities(weights, fields, p_data):
    """What an invariance must leave alone."""
    chain = tk.gibbs_chain(weights, *(fields or (None, None)))
    answers = {}
    for name, function in {
        "T_O": lambda: tk.observable_variance_time(chain),
        "Q": lambda: tk.q_struct(weights, p_data, b=fields and fields[0], c=fields and fields[1]).value,
        "gap": lambda: tk.spectral_gap(chain),
        "window": lambda: tk.window_variance(tk.spectral_measure(chain), 50),
        "longest": lambda: (
            tk.hitting_times(chain, np.isclose(chain.law, chain.law.max(), rtol=1e-9)).max() if np.ptp(chain.law) > 1e-6 else 0.0
        ),
        "minima": lambda: float(tk.merge_tree(chain).n_minima),
        "barriers": lambda: sum(event.barrier for event in tk.merge_tree(chain).events),
    }.items():
        answers[name], sentence = outcome(function, {})
        assert sentence is None, (name, sentence)
    return answers


def compare(one, other, tie):
    for name, value in one.items():
        if name in ("minima", "barriers") and tie:
            continue  # levels within rounding of each other: which of them are one is not a property of the model
        if name in ("Q", "longest") and tie:
            continue
        assert value == pytest.approx(other[name], rel=1e-7, abs=1e-13), name


def near_ties(weights):
    """Whether some energies differ by little more than rounding, so that a sum in another order may tell them apart."""
    energy = np.sort(tk.gibbs_chain(weights, quotient=False).energy)
    rises = np.diff(energy)
    return bool(((rises > 0) & (rises < 1e-9 * np.ptp(energy))).any())


@settings(max_examples=60)
@given(model=models(), seed=st.integers(0, 2**16))
def test_names_gauges_and_layers_do_not_matter(model, seed):
    given_as, weights, fields = model
    rng = np.random.default_rng(seed)
    n_v, n_h = weights.shape
    other = tk.visible_law(rng.normal(size=weights.shape))
    base = quantities(given_as, fields, other)
    tie = near_ties(weights) or fields is not None  # energies with fields tie only up to rounding

    # Spins renamed: the data law goes with its spins.
    rows, columns = rng.permutation(n_v), rng.permutation(n_h)
    states = np.arange(2**n_v)
    renamed = sum((states >> int(old) & 1) << new for new, old in enumerate(rows))
    law = np.empty_like(other)
    law[renamed] = other
    permuted = weights[rows][:, columns]
    compare(base, quantities(permuted, fields and [np.array(fields[0])[rows], np.array(fields[1])[columns]], law), tie)

    # Gauge: W_ij -> s_i W_ij t_j, fields likewise, and the data law with its spins turned over.
    s, t = rng.choice([-1.0, 1.0], n_v), rng.choice([-1.0, 1.0], n_h)
    turned = states ^ int(sum(1 << i for i in range(n_v) if s[i] < 0))
    law = np.empty_like(other)
    law[turned] = other
    gauged = s[:, None] * weights * t
    compare(base, quantities(gauged, fields and [s * fields[0], t * fields[1]], law), tie)

    # The layers exchanged; the data are of the visible one, so Q stays out.
    exchanged = quantities(weights.T, fields and fields[::-1], np.full(2**n_h, 0.5**n_h))
    compare({name: value for name, value in base.items() if name != "Q"}, exchanged, tie)


@given(model=models())
def test_gradients_are_those_of_the_float64_model(model):
    given_as, weights, fields = model
    b, c = fields or (None, None)
    p_data = np.arange(1.0, 1 + 2 ** weights.shape[0])
    p_data /= p_data.sum()
    for function in (
        lambda W: adjoints.observable_variance_time(W, b, c),
        lambda W: adjoints.kl_divergence(p_data, W, b, c),
        lambda W: (lambda q, dq: (q.value, dq))(*adjoints.q_struct(W, p_data, b=b, c=c)),
    ):
        (value, gradient), sentence = outcome(function, {"W": given_as})
        assert sentence is None
        expected = function(weights)
        assert value == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])
        # the layers' spins turned over together: an even function of the fields, the same of W
        flipped = adjoints.observable_variance_time(weights, *(None if field is None else -np.array(field) for field in (b, c)))
        np.testing.assert_allclose(flipped[1], adjoints.observable_variance_time(weights, b, c)[1], rtol=1e-8, atol=1e-10)


@given(
    entries=st.lists(st.floats(width=64), min_size=4, max_size=4),
    name=st.sampled_from(["tk.q_struct", "tk.diagnose", "adjoints.q_struct", "tk.sample", "tk.visible_law", "adjoints.kl_divergence"]),
)
def test_couplings_of_any_size(entries, name):
    """Any floats at all: a finite answer or a sentence."""
    function = getattr({"tk": tk, "adjoints": adjoints}[name.split(".")[0]], name.split(".")[1])
    answer, sentence = outcome(function, CALLS[function] | {"W": np.reshape(entries, (2, 2)), "b": None, "c": None})
    if sentence is None:
        assert np.isfinite(numbers_in(answer)).all()
        assert np.isfinite(entries).all()
    else:
        assert "\n" not in sentence


@pytest.mark.parametrize("labels", [["a", "b"], [1, (2, 3)], ["x\ny", "z" * 500]])
def test_an_ising_model_of_any_labels(labels):
    given_W, b, c = tk.from_ising(
        {labels[0]: np.float32(0.5)}, {(labels[1], labels[0]): 2, (labels[0], labels[1]): 1}, labels[:1], labels[1:]
    )
    assert (given_W.tolist(), b.tolist(), c.tolist()) == ([[-3.0]], [-0.5], [0.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"h": {"a": "x"}}, "h must hold finite numbers of at most 1e+300; at 'a' it has 'x'"),
        ({"h": {"a": None}}, "h must hold finite numbers"),
        ({"h": {"a": True}}, "h must hold finite numbers"),
        ({"h": {"a": 10**400}}, "h must hold finite numbers"),
        ({"J": {("a", "x"): 1e308}}, "J must hold finite numbers"),
        ({"J": {("a", "x"): 1j}}, "J must hold finite numbers"),
        ({"J": {7: 1.0}}, "J must have pairs of labels as keys; got 7"),
        ({"J": {"ax": 1.0}}, "J must have pairs of labels as keys; got 'ax'"),
        ({"J": {("a", "x", "y"): 1.0}}, "J must have pairs of labels as keys"),
        ({"h": 3}, "h must be a mapping of labels to numbers; got 3"),
        ({"visible": 3}, "visible must be a list of labels; got 3"),
        ({"visible": "a"}, "visible must be a list of labels; got 'a'"),
        ({"visible": [["a"]]}, r"visible must be a list of labels; got [['a']]"),
    ],
)
def test_an_ising_model_that_is_none(arguments, words):
    answer, sentence = outcome(tk.from_ising, {"h": {"a": 0.5}, "J": {("a", "x"): 1.0}, "visible": ["a"], "hidden": ["x"]} | arguments)
    assert answer is None
    assert words in sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"packed": "no"}, "packed must be True or False; got 'no'"),
        ({"packed": 1}, "packed must be True or False; got 1"),
        ({"progress": 3}, "progress must be None or a function of two integers; got 3"),
        ({"kernel": np.zeros(2)}, f"kernel must be one of {KERNEL_NAMES}; got array([0., 0.])"),
        ({"n_sweeps": 2**62, "burn_in": 2**62, "thin": 2**62}, "burn_in and n_sweeps must add up to less than 2**63 sweeps"),
        ({"n_sweeps": 2**62}, "records of 3 chains of 4 spins would take"),
        ({"n_chains": 2**62}, "would take"),
    ],
)
def test_samples_that_cannot_be_had(arguments, words):
    answer, sentence = outcome(tk.sample, CALLS[tk.sample] | arguments)
    assert answer is None
    assert words in sentence


@pytest.mark.parametrize("name", [name for name in NAMES if "chain" in CALLS[NAMES[name]]])
def test_couplings_in_place_of_a_chain(name):
    answer, sentence = outcome(NAMES[name], CALLS[NAMES[name]] | {"chain": W})
    assert answer is None
    makers = {"GibbsChain": "gibbs_chain(W)", "ExchangeableChain": "exchangeable_chain(W)"}
    assert sentence.startswith(tuple(f"chain must be a {kind}, made by {maker}; got array([[" for kind, maker in makers.items()))
