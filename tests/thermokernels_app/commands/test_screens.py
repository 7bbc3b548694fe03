"""Every command in every encoding, at every width, with and without colour, on a terminal and into a pipe: no traceback, nothing cut."""

import io
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer

import thermokernels as tk
from thermokernels_app import main

ENCODINGS = ("cp932", "cp852", "ascii", "iso-8859-2", "utf-8")
WIDTHS = (40, 80, 200)
COMMANDS = sorted(command.name or command.callback.__name__ for command in main.app.registered_commands)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Device(io.BytesIO):
    """What stdout writes to: a terminal or not, and its content outlives it."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    def close(self):
        pass


@pytest.fixture
def screen(tmp_path, monkeypatch):
    """What a command writes to stdout, in a folder with a model, samples and a trace."""
    monkeypatch.chdir(tmp_path)
    W = np.array([[1.2, 0.4, -0.3], [0.5, -1.1, 0.8]])
    names = {"visible": ("größe", "値"), "hidden": ("a", "b", "ż")}
    tk.Model(W, **names).save("modèle.npz")
    samples = tk.sample(W, n_chains=4, n_sweeps=200, burn_in=50, kernel="single-site", seed=0)
    np.save("trace.npy", samples.trace())
    np.save("data.npy", samples.visible[:, 0])

    def run(*arguments, encoding="utf-8", width=80, colour=True, terminal=True):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        if not colour:
            monkeypatch.setenv("NO_COLOR", "1")
        devices = Device(terminal), Device(terminal)
        for name, device, on_error in zip(("stdout", "stderr"), devices, ("strict", "backslashreplace"), strict=True):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(device, encoding=encoding, errors=on_error))
        monkeypatch.setattr(sys, "argv", ["thermo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        sys.stderr.flush()
        written, said = (ESCAPES.sub("", device.getvalue().decode(encoding)) for device in devices)
        assert "Traceback" not in said, said
        assert ended.value.code in (0, None), said
        return written

    return run


def environments():
    """Each encoding with each width, and the rest by turns."""
    number = 0
    for encoding in ENCODINGS:
        for width in WIDTHS:
            number += 1
            yield {"encoding": encoding, "width": width, "colour": number % 2 == 0, "terminal": number % 3 != 0}


def parameters(command):
    group = typer.main.get_command(main.app)
    return group.commands[command].params if command else group.params


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(screen, command):
    arguments = [command, "--help"] if command else ["--help"]
    for environment in environments():
        text = screen(*arguments, **environment)
        assert "--help" in text
        over = [line for line in text.splitlines() if len(line) > max(52, environment["width"])]  # lines of help have 50 columns at least
        assert not over, (environment, over)
        assert "\u2026" not in text
        assert "\\u2026" not in text
        options = {option for parameter in parameters(command) for option in parameter.opts if option.startswith("--")}
        lost = {option for option in options if option not in text}
        assert not lost, (environment, lost)


SCREENS = {
    "version": ("--version",),
    "diagnose": ("diagnose", "modèle.npz", "--data", "data.npy"),
    "variance": ("variance", "modèle.npz", "--data", "data.npy"),
    "compare": ("compare", "trace.npy", "--model", "modèle.npz"),
    "compare a constant": ("compare", "trace.npy", "--model", "modèle.npz", "-o", "v0v0", "-o", "v0"),
    "json": ("compare", "trace.npy", "--model", "modèle.npz", "-o", "v0", "--json"),
}


@pytest.mark.parametrize("name", SCREENS)
def test_screens(screen, name):
    """What is said is the same everywhere, but for where lines end."""
    whole = screen(*SCREENS[name], width=200, terminal=False)
    words = {word for word in re.findall(r"[A-Za-z0-9.+-]+", whole) if len(word) > 1}
    for environment in environments():
        text = screen(*SCREENS[name], **environment)
        lost = {word for word in words if word not in text}
        assert not lost, (environment, lost)
        assert "…" not in text


def test_tables_keep_their_headers_at_80_columns(screen):
    text = screen("diagnose", "modèle.npz", width=80)
    header = text[text.index("  basin") :]
    for title in ("pi(basin)", "pi(deeper)", "barrier", "out (sweeps)", "back (sweeps)", "relevance", "crossable", "seen"):
        assert title in header
    assert max(map(len, text.splitlines()[2:])) <= 80


@pytest.mark.report
def test_every_command_has_its_call_from_python():
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    page = (Path(__file__).parents[3] / "docs" / "library.md").read_text(encoding="utf-8")
    calls = dict(re.findall(r"^\| `thermo ([\w-]+)` \| (.*) \|$", page, re.MULTILINE))
    assert calls.keys() == {command.replace("_", "-") for command in COMMANDS}
    for name in re.findall(r"`([\w.]+)`", " ".join(calls.values())):
        module, _, function = name.rpartition(".")
        assert getattr(import_module(module), function).__doc__, name


@pytest.mark.parametrize("words", ["thermo diagnose W", "thermo compare trace.npy --model m", "thermo plot runs/"])
def test_files_are_completed_by_the_shell(words, screen, monkeypatch):
    """The program offers nothing where a file is due, and bash then completes files, as its part of the bargain says."""
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", "import sys; sys.argv = ['thermo']; from thermokernels_app.main import main; main()"]
    offered, source = (
        subprocess.run(command, env=os.environ | environment | {"_THERMO_COMPLETE": what}, capture_output=True, text=True, check=False)
        for what in ("complete_bash", "source_bash")
    )
    assert (offered.stdout.strip(), offered.stderr) == ("", "")
    assert "complete -o default -F" in source.stdout


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "trace.npy", "--model", "modèle.npz", "--kernel", "single-site"),
        ("diagnose", "modèle.npz", "--data", "data.npy"),
        ("variance", "modèle.npz", "--data", "data.npy"),
        ("track", "history.npy", "--data", "data.npy", "--kernel", "single-site"),
    ],
)
def test_no_line_is_wider_than_the_screen(screen, arguments, width):
    np.save("history.npy", np.array([[[0.2, 0.1]], [[0.4, -0.3]]]).reshape(2, 2, 1))
    text = screen(*arguments, width=width)
    assert [line for line in text.splitlines() if len(line) > width] == []
