"""Numbers on the command line that are none, or none that can be meant: one sentence that names the option, of every command."""

import sys
import typing

import numpy as np
import pytest
import typer

from thermokernels_app import main

TOO_LARGE = "99999999999999999999"
# A call of each command that takes numbers, but for the number.
CALLS = {
    "run": ["--grid", "smoke"],
    "freeze": ["design.json"],
    "amend": ["parent.json", "design.json", "--reason", "none", "--seen", "nothing"],
    "verify-gradients": [],
    "diagnose": ["W.npy"],
    "estimate": ["W.npy"],
    "variance": ["W.npy"],
    "track": ["history.npy", "--data", "data.npy"],
    "sample": ["W.npy", "--out", "samples.npz"],
    "compare": ["trace.npy", "--model", "W.npy"],
}
WRONG = {
    "integer": ("-1", "1.5", "1e400", "nan", "inf", "", "x", "7" * 5000, TOO_LARGE),
    "float": ("-1", "0", "1e400", "nan", "inf", "", "x"),
    "time": ("-1", "0", "1e400", "nan", "inf", "", "x", "7" * 400, TOO_LARGE),
}
TIMES = ("--cap", "--task-limit")
# Any nonnegative integer is a seed of NumPy.
ANY_SEED = ("estimate", "variance", "track", "sample")


def kind_of(option, hint):
    """The kind of number that an option takes, or None."""
    types = (hint, *typing.get_args(hint))
    if option in TIMES or (option == "--budget" and str in types):
        return "time"
    return "integer" if int in types else "float" if float in types else None


def numeric_options():
    commands = typer.main.get_command(main.app).commands
    for info in main.app.registered_commands:
        command, hints = info.name or info.callback.__name__, typing.get_type_hints(info.callback)
        for parameter in commands[command].params:
            option = parameter.opts[0]
            for value in WRONG.get(kind_of(option, hints[parameter.name]), ()) if option.startswith("-") else ():
                if not (option == "--seed" and value == TOO_LARGE and command in ANY_SEED):
                    yield pytest.param(command, option, value, id=f"{command} {option} {value[:21]}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    W = np.array([[0.3, -0.2], [0.1, 0.4]])
    np.save("W.npy", W)
    np.save("history.npy", np.stack([W, 2 * W]))
    np.save("data.npy", np.array([[1, 1], [1, -1], [-1, -1]]))
    np.save("trace.npy", np.random.default_rng(0).choice([-1, 1], (4, 50, 4)))
    return tmp_path


@pytest.mark.parametrize(("command", "option", "value"), [*numeric_options()])
def test_a_number_that_is_none(folder, monkeypatch, capsys, command, option, value):
    beside = {"--probes": ["--seed", "1"], "--seed": ["--probes", "2"]}.get(option, []) if command == "variance" else []
    before = sorted(folder.iterdir())
    monkeypatch.setattr(sys, "argv", ["thermo", command, *CALLS[command], option, value, *beside])
    if command == "amend":
        main.app(["freeze", "parent.json", "--grid", "smoke"], standalone_mode=False)
        capsys.readouterr()
        before = sorted(folder.iterdir())
    assert main._answer() == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith(f"thermo: {option} must "), sentence
    assert "; got " in sentence or "2**63" in sentence, sentence
    assert len(sentence) < 200
    assert sorted(folder.iterdir()) == before


def test_every_command_that_takes_numbers_is_here():
    assert {parameter.values[0] for parameter in numeric_options()} == set(CALLS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["variance", "W.npy", "--seed", "1", "--probes", str(2**63 - 1)],
            "the signs of 4 observables in 9223372036854775807 probes would take 1.10e+12 GiB of memory",
        ),
        (["estimate", "W.npy", "--replicates", str(2**63 - 1)], "9223372036854775808 replicates would take 4.81e+11 GiB of memory"),
        (["estimate", "W.npy", "--replicates", "8", "--precision", "0.1"], "--replicates must be given alone"),
        (["sample", "W.npy", "--out", "s.npz", "--chains", str(2**63 - 1)], "use a larger thin, fewer chains or packed=True"),
        (["estimate", "W.npy", "--workers", "1025"], "--workers must be less than or equal to 1024; got '1025'"),
        (["run", "--workers", "1025"], "--workers must be less than or equal to 1024; got '1025'"),
    ],
)
def test_numbers_that_are_too_large(folder, monkeypatch, capsys, arguments, sentence):
    monkeypatch.setattr(sys, "argv", ["thermo", *arguments])
    assert main._answer() == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("kernel", ["single-site", "alternating"])
def test_records_that_are_too_far_apart(folder, monkeypatch, capsys, kernel):
    monkeypatch.setattr(sys, "argv", ["thermo", "compare", "trace.npy", "--model", "W.npy", "--every", str(2**62), "--kernel", kernel])
    assert main._answer() == 11
    captured = capsys.readouterr()
    assert "steps lie between records, and so many products of P would take hours: record more often" in " ".join(captured.out.split())
    assert captured.err.splitlines()[-1] == "thermo: HALT: no exact time of energy, magnetisation, slowest"


@pytest.mark.parametrize(
    "arguments",
    [
        ["track", "history.npy", "--data", "data.npy", "--csv", "missing/table.csv"],
        ["sample", "W.npy", "--out", "missing/samples.npz"],
        ["report", ".", "--out", "missing/page.html"],
        ["diagnose", "W.npy", "--checkpoint", "missing/kept.npz"],
    ],
)
def test_a_file_that_cannot_be_written_is_named_before_any_work(folder, monkeypatch, capsys, arguments):
    if arguments[0] == "report":
        pytest.importorskip("matplotlib", reason="needs the extra `report`")
    monkeypatch.setattr(sys, "argv", ["thermo", *arguments])
    assert main._answer() == 2
    captured = capsys.readouterr()
    assert captured.err == "thermo: missing cannot be read or written: No such file or directory\n"
