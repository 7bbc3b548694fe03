"""Samples of thrml and chains of rbms, in and out."""

from types import SimpleNamespace

import numpy as np
import pytest

import thermokernels as tk

MODEL = tk.Model([[0.5, -0.2], [0.1, 0.3], [-0.4, 0.2]], [0.1, -0.3, 0.2], [0.2, -0.1])


@pytest.mark.bridges
def test_states_of_thrml():
    """What thrml samples is read, goes back unchanged, and is where thrml goes on from."""
    models = pytest.importorskip("thrml.models", reason="thrml is not installed: pip install '.[bridges]'")
    thrml, jax = pytest.importorskip("thrml"), pytest.importorskip("jax")
    nodes = [thrml.SpinNode() for _ in range(5)]
    edges = [(nodes[i], nodes[3 + j]) for i in range(3) for j in range(2)]
    biases = jax.numpy.array([50.0, -50.0, 0.0, 0.0, 50.0])  # three of the spins are frozen, and tell the order and the signs
    ebm = models.IsingEBM(nodes, edges, biases, jax.numpy.full(6, 0.1), jax.numpy.array(1.0))
    blocks = [thrml.Block(nodes[:3]), thrml.Block(nodes[3:])]
    program, schedule = models.IsingSamplingProgram(ebm, blocks, []), thrml.SamplingSchedule(3, 7, 2)

    def run(key, start):
        return thrml.sample_states(key, program, schedule, start, [], blocks)

    keys, starts = jax.random.split(jax.random.key(1), 4), [jax.numpy.zeros((4, 3), bool), jax.numpy.zeros((4, 2), bool)]
    states = jax.jit(jax.vmap(run))(keys, starts)
    samples = tk.Samples.from_thrml(states, schedule)
    assert repr(samples) == "Samples(7 records of 4 chains, 3 visible + 2 hidden spins, alternating)"
    assert samples.sweeps.tolist() == [3, 5, 7, 9, 11, 13, 15]
    assert (samples.trace()[:, :, [0, 1, 4]] == [1, -1, 1]).all()
    assert {-1, 1} == set(samples.visible[..., 2].ravel())
    for there, back in zip(states, samples.to_thrml(), strict=True):
        np.testing.assert_array_equal(np.asarray(there), back)
    one = tk.Samples.from_thrml(run(keys[0], [start[0] for start in starts]), schedule)
    np.testing.assert_array_equal(one.trace()[0], samples.trace()[0])

    drawn = tk.sample(tk.from_thrml(ebm, blocks=program), n_chains=4, n_sweeps=20, kernel="alternating", seed=0)
    assert (drawn.trace()[:, :, [0, 1, 4]] == [1, -1, 1]).all()
    further = tk.Samples.from_thrml(jax.jit(jax.vmap(run))(keys, [block[:, -1] for block in drawn.to_thrml()]))
    assert (further.trace()[:, :, [0, 1, 4]] == [1, -1, 1]).all()
    found = tk.compare(samples, tk.from_thrml(ebm, blocks=program), kernel="alternating", every=2)
    assert found.n_records == 7


@pytest.mark.bridges
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chains_of_rbms(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    classes = pytest.importorskip("rbms.bernoulli_bernoulli.classes", reason="rbms is not installed: pip install '.[bridges]'")
    draws, kind = np.random.default_rng(1), getattr(torch, dtype)
    params = classes.BBRBM(*(torch.tensor(draws.normal(size=size), dtype=kind) for size in ((3, 2), 3, 2)))
    model = tk.from_rbms(params)
    drawn = tk.sample(model, n_chains=5, n_sweeps=4, kernel="alternating", seed=0, packed=True)
    chains = drawn.to_rbms(params)
    assert {name: (tuple(values.shape), values.dtype) for name, values in chains.items()} == {
        name: ((5, size) if size else (5,), kind)
        for name, size in (("visible", 3), ("hidden", 2), ("visible_mag", 3), ("hidden_mag", 2), ("weights", 0))
    }
    own = params.sample_hiddens({name: values.clone() for name, values in chains.items()})
    assert chains["hidden_mag"].numpy() == pytest.approx(own["hidden_mag"].numpy(), abs=1e-6)
    own = params.sample_visibles({name: values.clone() for name, values in chains.items()})
    assert chains["visible_mag"].numpy() == pytest.approx(own["visible_mag"].numpy(), abs=1e-6)
    np.testing.assert_array_equal(tk.Samples.from_rbms(chains, params).trace()[:, 0], drawn.trace()[:, -1])
    np.testing.assert_array_equal(tk.Samples.from_rbms(drawn.to_rbms(params, 0), params).trace()[:, 0], drawn.trace()[:, 0])

    history = [params.sample_state(chains, n_steps=1) for _ in range(3)]
    assert set(history[-1]) == set(chains)
    read = tk.Samples.from_rbms(history, params)
    assert repr(read) == "Samples(3 records of 5 chains, 3 visible + 2 hidden spins, alternating)"
    np.testing.assert_array_equal(read.visible[2], 2 * history[2]["visible"].numpy() - 1)
    assert read.seed is None
    assert tk.sample(model, n_chains=5, n_sweeps=1, start=read.trace()[:, -1], seed=1).visible.shape == (1, 5, 3)


def machine(name, shape=(3, 2)):
    return SimpleNamespace(name=name, weight_matrix=np.zeros(shape), vbias=np.zeros(shape[0]), hbias=np.zeros(shape[1]))


def test_chains_in_the_units_of_their_machine():
    up = {"visible": np.ones((4, 3)), "hidden": np.ones((4, 2))}
    down = {name: -values for name, values in up.items()}
    assert (tk.Samples.from_rbms(up, machine("BBRBM")).visible == 1).all()
    assert (tk.Samples.from_rbms([up, down], machine("IIRBM")).hidden[1] == -1).all()
    with pytest.raises(ValueError, match=r"chains\['visible'\] as spins must hold spins \+1 and -1; entry \(0, 0, 0\) is -3"):
        tk.Samples.from_rbms(down, machine("BBRBM"))
    for wrong, words in (
        ({"visible": np.ones((4, 3))}, r"chains must be those of rbms, with hidden of shape \(n_chains, 2\) by the machine"),
        ({"visible": np.ones((4, 2)), "hidden": np.ones((4, 2))}, r"with visible of shape \(n_chains, 3\) by the machine; got \(4, 2\)"),
        ([up, {"visible": np.ones((5, 3)), "hidden": np.ones((5, 2))}], r"with visible of shape .* got \(4, 3\), \(5, 3\)"),
        (3, r"chains must be those of rbms, with visible .* got 3"),
        ([], r"chains must be those of rbms, with visible .* got \[\]"),
        ({"visible": np.ones((4, 3)), "hidden": np.ones((5, 2))}, "chains must be as many in both layers; got 4 and 5"),
    ):
        with pytest.raises(ValueError, match=words):
            tk.Samples.from_rbms(wrong, machine("BBRBM"))
    with pytest.raises(ValueError, match="params must be a BBRBM or IIRBM"):
        tk.Samples.from_rbms(up, machine("PBRBM"))
    drawn = tk.sample(MODEL, n_chains=4, n_sweeps=1, seed=0)
    with pytest.raises(ValueError, match="params must be a machine of 3 visible and 2 hidden units; got 2 and 3"):
        drawn.to_rbms(machine("BBRBM", (2, 3)))


def test_states_that_are_not_those_of_two_colours():
    two = [np.ones((5, 3), bool), np.ones((5, 2), bool)]
    for wrong, words in (
        (two[:1], r"got bool \(5, 3\)"),
        ([two[0], two[1][1:]], r"got bool \(5, 3\), bool \(4, 2\)"),
        ([two[0], two[1].astype(float)], r"got bool \(5, 3\), float64 \(5, 2\)"),
        ([two[0][0], two[1][0]], r"got bool \(3,\), bool \(2,\)"),
        (None, "got None"),
    ):
        with pytest.raises(ValueError, match=f"states must be the two arrays of bools that thrml samples .*{words}"):
            tk.Samples.from_thrml(wrong)
    with pytest.raises(ValueError, match=r"schedule must be a SamplingSchedule of thrml, with n_warmup, .* int has no n_warmup"):
        tk.Samples.from_thrml(two, 3)
    with pytest.raises(ValueError, match="schedule must be that of the states, which have 5 records; it has 4"):
        tk.Samples.from_thrml(two, SimpleNamespace(n_warmup=0, n_samples=4, steps_per_sample=1))
