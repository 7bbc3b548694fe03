"""T_O in chunks of observables: the same bits however many a chunk holds, progress, and checkpoints."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import adjoints
import thermokernels as tk
from thermokernels.common import footprint, memory, threads
from thermokernels.quantities.variance_time import variance_time, with_solutions
from thermokernels.solvers.row_sums import _inner, _sums_of
from thermokernels.solvers.solve import Solve


@pytest.fixture
def rows_at_once(monkeypatch):
    """Sets how many observables a chunk holds."""

    def set_rows(k):
        monkeypatch.setattr(footprint, "rows_at_once", lambda n_rows, states: min(n_rows, k))

    return set_rows


@pytest.fixture
def blocks_of_four(monkeypatch):
    """Blocks of sums as small as those of a large model."""
    monkeypatch.setattr(footprint, "block_rows", lambda states: 4)


def model(shape, with_fields):
    draws = np.random.default_rng([*shape, with_fields])
    W = draws.normal(size=shape)
    return (W, 0.3 * draws.normal(size=shape[0]), 0.3 * draws.normal(size=shape[1])) if with_fields else (W, None, None)


MODELS = [((4, 4), False), ((5, 5), False), ((6, 3), False), ((5, 4), False), ((2, 8), False), ((4, 5), True), ((6, 4), True)]


@pytest.mark.parametrize(("shape", "with_fields"), MODELS)
@pytest.mark.parametrize("method", ["auto", "cg"])
def test_no_bit_depends_on_the_size_of_the_chunks(shape, with_fields, method, rows_at_once, blocks_of_four):
    W, b, c = model(shape, with_fields)
    results = []
    for k in (1, 3, 4, 6, 9, 1000):
        rows_at_once(k)
        value, gradient = adjoints.observable_variance_time(W, b, c, method=method, fields=True)
        time = variance_time(tk.gibbs_chain(W, b, c), Solve(method))
        results.append((value, time.value, time.residual, time.iterations, time.bound, *(part.tobytes() for part in gradient)))
    assert all(result == results[0] for result in results)


def test_blocks_change_the_order_of_the_sums_and_nothing_else(monkeypatch):
    W, gradients = model((6, 6), False)[0], []
    for block in (1, 4, 36):
        monkeypatch.setattr(footprint, "block_rows", lambda states, block=block: block)
        gradients.append(adjoints.observable_variance_time(W, method="cg")[1])
    assert len({gradient.tobytes() for gradient in gradients}) == 3
    for gradient in gradients[:2]:
        np.testing.assert_allclose(gradient, gradients[2], rtol=0, atol=1e-13 * np.abs(gradients[2]).max())


def test_the_blocks_of_a_model_depend_on_its_size_alone():
    assert [footprint.block_rows(2**n) for n in (7, 16, 17, 18, 19, 23)] == [8192, 16, 8, 4, 4, 4]


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (2, 6)])
def test_two_block_values_in_chunks(shape, rows_at_once):
    chain = tk.gibbs_chain(model(shape, False)[0], kernel="two-block")
    values = []
    for k in (1, 4, 1000):
        rows_at_once(k)
        values.append(tk.observable_variance_time(chain, "cg"))
    assert values[0] == values[1] == values[2] == pytest.approx(tk.observable_variance_time(chain, "cholesky"), rel=1e-12, abs=0)


def test_the_two_block_kernel_has_no_gradient():
    with pytest.raises(
        ValueError, match="the adjoint of T_O is that of the single-site and the alternating kernel; got kernel='two-block'"
    ):
        adjoints.signal_to_noise.chain_q_struct_gradient(tk.gibbs_chain(np.ones((2, 2)), kernel="two-block"), np.full(4, 0.25))


def test_solutions_that_were_not_kept_are_solved_for_again(rows_at_once):
    chain = tk.gibbs_chain(model((4, 6), False)[0])
    kept = with_solutions(chain)
    rows_at_once(5)
    again = variance_time(chain)
    np.testing.assert_array_equal(again.right_hand_sides, kept.right_hand_sides)
    np.testing.assert_array_equal(again.solutions, kept.solutions)


def test_progress_is_told_after_every_chunk(rows_at_once):
    W, calls = model((4, 4), False)[0], []
    rows_at_once(6)
    adjoints.q_struct(W, tk.visible_law(0.5 * W), method="cg", progress=lambda *call: calls.append(call))
    tk.q_struct(W, tk.visible_law(0.5 * W), method="cg", progress=lambda *call: calls.append(call))
    tk.probe_variance_time(tk.gibbs_chain(W), seed=0, method="cg", progress=lambda *call: calls.append(call))
    assert calls == 2 * [(6, 16), (12, 16), (16, 16)] + [(6, 12), (12, 12)]


class Stop(BaseException):
    """What a user's progress function may raise; like KeyboardInterrupt no Exception."""


COMPUTATIONS = {
    "value": lambda W, **options: tk.observable_variance_time(tk.gibbs_chain(W), method="cg", **options),
    "gradient": lambda W, **options: adjoints.observable_variance_time(W, method="cg", **options),
    "q": lambda W, **options: adjoints.q_struct(W, tk.visible_law(0.5 * W), method="cg", **options),
    "probes": lambda W, **options: adjoints.probe_variance_time(W, 12, seed=3, method="cg", **options),
    "q by probes": lambda W, **options: adjoints.probe_q_struct(W, tk.visible_law(0.5 * W), n_probes=12, seed=3, method="cg", **options),
}


def numbers(result):
    parts = result if isinstance(result, tuple) else (result,)
    return [np.asarray(getattr(part, "value", part)).tobytes() for part in parts]


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_an_interrupted_computation_goes_on_to_the_same_bits(name, tmp_path, rows_at_once, blocks_of_four):
    compute, W, calls = COMPUTATIONS[name], model((4, 4), False)[0], []
    rows_at_once(3)
    expected = numbers(compute(W))

    def stop(done, total):
        calls.append(done)
        if done >= 6:
            raise Stop

    with pytest.raises(Stop):
        compute(W, progress=stop, checkpoint=tmp_path / "state.npz")
    assert calls == [3, 4, 7]  # no chunk holds the end of one block and the head of the next
    rows_at_once(9)  # another machine, with another amount of memory
    assert numbers(compute(W, progress=lambda done, total: calls.append(done), checkpoint=tmp_path / "state.npz")) == expected
    assert calls == [3, 4, 7, 4, 12, 16]
    # finished: nothing is left to solve
    assert numbers(compute(W, progress=lambda done, total: calls.append(done), checkpoint=tmp_path / "state.npz")) == expected
    assert calls[6:] == [16]
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_a_checkpoint_of_another_computation_is_refused(tmp_path):
    W, path = model((3, 3), False)[0], tmp_path / "state.npz"
    tk.observable_variance_time(tk.gibbs_chain(W), checkpoint=path)
    for other in (
        lambda: tk.observable_variance_time(tk.gibbs_chain(W + 1e-15), checkpoint=path),
        lambda: tk.observable_variance_time(tk.gibbs_chain(W), rtol=1e-9, checkpoint=path),
        lambda: tk.observable_variance_time(tk.gibbs_chain(W, quotient=False), checkpoint=path),
        lambda: tk.observable_variance_time(tk.gibbs_chain(W, kernel="two-block"), checkpoint=path),
        lambda: adjoints.observable_variance_time(W, checkpoint=path),
        lambda: tk.probe_variance_time(tk.gibbs_chain(W), seed=0, checkpoint=path),
    ):
        with pytest.raises(ValueError, match=r"state.npz belongs to another model, other options or another version .*: name another file"):
            other()
    tk.probe_variance_time(tk.gibbs_chain(W), seed=0, checkpoint=tmp_path / "probes.npz")
    with pytest.raises(ValueError, match="belongs to another model"):
        tk.probe_variance_time(tk.gibbs_chain(W), seed=1, checkpoint=tmp_path / "probes.npz")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"state.npz is no checkpoint that can be read .*: name another file"):
        tk.observable_variance_time(tk.gibbs_chain(np.ones((2, 2))), checkpoint=path)
    assert path.read_bytes() == content


def test_a_truncated_checkpoint_and_a_missing_folder_are_refused(tmp_path):
    chain, path = tk.gibbs_chain(np.ones((2, 2))), tmp_path / "state.npz"
    tk.observable_variance_time(chain, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="no checkpoint that can be read"):
        tk.observable_variance_time(chain, checkpoint=path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tk.observable_variance_time(chain, checkpoint=tmp_path / "nowhere" / "state.npz")


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child process")
def test_an_interrupt_from_outside_loses_no_finished_block(tmp_path, monkeypatch):
    code = (
        "import sys, numpy as np, adjoints\n"
        "from thermokernels.common import footprint\n"
        "footprint.rows_at_once = footprint.block_rows = lambda *sizes: 2\n"
        "W = np.random.default_rng(0).standard_normal((5, 5))\n"
        "def tell(done, total):\n"
        "    print(done, flush=True)\n"
        "    if sys.argv[1] == 'wait' and done == 4: sys.stdin.read()\n"
        "value, gradient = adjoints.observable_variance_time(W, progress=tell, checkpoint='state.npz')\n"
        "print(value.hex(), gradient.tobytes().hex())\n"
    )

    def start(word):
        command = [sys.executable, "-c", code, word]
        return subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with start("wait") as child:
        assert [child.stdout.readline(), child.stdout.readline()] == ["2\n", "4\n"]
        child.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in child.communicate(timeout=60)[1]
    with start("go on") as child:
        lines = child.communicate(timeout=120)[0].splitlines()
    assert lines[0] == "4"
    monkeypatch.setattr(footprint, "block_rows", lambda states: 2)
    value, gradient = adjoints.observable_variance_time(
        np.random.default_rng(0).standard_normal((5, 5)), checkpoint=tmp_path / "another.npz"
    )
    assert lines[-1] == f"{value.hex()} {gradient.tobytes().hex()}"


def test_what_does_not_fit_is_refused_before_anything_is_made(monkeypatch):
    made = []
    monkeypatch.setattr(memory, "available", lambda: 2**23)
    monkeypatch.setattr("thermokernels.quantities.variance_time.gibbs_chain", lambda *_, **__: made.append(1))
    W = np.zeros((9, 9))
    for compute, what in (
        (lambda: tk.q_struct(W, np.full(512, 1 / 512)), "T_O"),
        (lambda: adjoints.q_struct(W, np.full(512, 1 / 512)), "T_O and its gradient"),
        (lambda: adjoints.observable_variance_time(W), "T_O and its gradient"),
        (lambda: adjoints.probe_variance_time(W, seed=0), "T_O and its gradient"),
    ):
        with pytest.raises(tk.ModelTooLargeError, match=rf"^{what} of 81 observables of 18 spins \(2\*\*17 states\) would take 2\d MiB"):
            compute()
    assert not made


def test_a_chain_without_room_for_a_solve_is_refused(monkeypatch):
    chain = tk.gibbs_chain(np.zeros((9, 9)))
    monkeypatch.setattr(memory, "available", lambda: 2**23)
    for compute in (tk.observable_variance_time, lambda chain: tk.probe_variance_time(chain, seed=0)):
        with pytest.raises(tk.ModelTooLargeError, match=r"T_O of 81 observables on 131072 states would take .* are available; use fewer"):
            compute(chain)


def test_memory_decides_how_many_observables_are_solved_for_together(monkeypatch):
    states = 2**23
    row = 16 * states
    monkeypatch.setattr(memory, "available", lambda: 2**40)
    for used, rows in ((1, 1), (2, footprint.CHUNK_ROWS), (12, 12)):
        monkeypatch.setattr(threads, "_chosen", used)
        assert footprint.rows_at_once(144, states) == rows
    assert footprint.rows_at_once(49, 2**13) == 49
    assert footprint.rows_at_once(100, 2**15) == footprint.CHUNK_BYTES // (16 * 2**15)
    monkeypatch.setattr(memory, "available", lambda: 4 * 3 * row)
    assert footprint.rows_at_once(144, states) == 3
    monkeypatch.setattr(memory, "available", lambda: row)
    assert footprint.rows_at_once(144, states) == 1


@pytest.mark.small
@pytest.mark.parametrize("n_states", [2, 4, 8, 32])
@pytest.mark.parametrize("with_diagonal", [False, True])
def test_sums_of_a_row_are_the_plain_ones(n_states, with_diagonal):
    """Of chains with fewer states than a vector has doubles, too."""
    b, z, r = np.random.default_rng(n_states).normal(size=(3, 2, n_states))
    diagonal, sums = np.linspace(0.1, 0.9, n_states) if with_diagonal else np.empty(0), np.empty((2, 6))
    _sums_of(b, z, r, diagonal, 8, sums)
    weighted = (diagonal if with_diagonal else 1.0) * z * z
    np.testing.assert_allclose(sums, np.stack([b * z, r * z, r * r, z * z, b * b, weighted]).sum(axis=2).T, rtol=1e-13)
    assert _inner(b[0], z[0]) == pytest.approx(b[0] @ z[0], rel=1e-13, abs=0)
