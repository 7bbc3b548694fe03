"""Claim: every number that a page shows in a generated block is what the program prints today.

    python validation/pages.py            compare, and end with 1 where a page differs
    python validation/pages.py --write    put today's lines in their place

A generated block stands between ``<!-- from: COMMAND -->`` and ``<!-- end -->``. The command runs in an empty folder in which the files
that it names have been made (FILES); RUN stands for the folder of a run of the default grid. A page may leave lines out (``...``): each
line that it shows is held against the line of the output that differs from it in numbers only; of a block marked ``; whole`` none may be
missing. Numbers agree within a relative 1e-3, or as the block says (``; within 0.05``: trained networks differ between kinds of
processors). A number below 1e-6 in both is what rounding or a stopping rule left: it is not compared, nor is the logarithm of its ratio to
another number of its line, which margins are. Times and memory belong to a machine: they are not compared either. A block marked ``; long``
takes minutes, and is compared (or written) with ``--long`` only.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"<!-- from: (?P<command>[^;\n]+?)(?P<whole>; whole)?(?:; within (?P<within>[\d.]+))?(?P<long>; long)? -->\n(?P<body>.*?)<!-- end -->",
    re.DOTALL,
)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\d)")
OF_A_MACHINE = re.compile(r"[\d.]+(?: to [\d.]+)? (?:ms|s|min|h|[KMG]iB|MB|GB)\b")
LEFT_OVER = 1e-6
WITHIN = 1e-3


class PageError(Exception):
    """A line of a page that the command does not print."""


def own_model(folder: Path) -> None:
    """W.npy and samples.npy of examples/own_model.py."""
    sys.path.insert(0, str(ROOT / "examples"))
    from own_model import couplings_and_samples

    weights, samples = couplings_and_samples()
    np.save(folder / "W.npy", weights)
    np.save(folder / "samples.npy", samples)


def bars(folder: Path) -> None:
    """bars.npz and bars.npy: the machine that docs/importers.md trains with scikit-learn, and its data."""
    from sklearn.neural_network import BernoulliRBM

    import thermokernels as tk

    rng = np.random.default_rng(0)
    images = np.zeros((8, 9))
    for k in range(3):
        images[k].reshape(3, 3)[k] = 1
        images[3 + k].reshape(3, 3)[:, k] = 1
    images[7] = 1
    data = images[rng.integers(8, size=500)]
    data = np.where(rng.random(data.shape) < 0.02, 1 - data, data)
    machine = BernoulliRBM(n_components=6, learning_rate=0.1, batch_size=20, n_iter=200, random_state=0).fit(data)
    W, b, c = tk.from_scikit_learn(machine)
    np.savez(folder / "bars.npz", W=W, b=b, c=c)
    np.save(folder / "bars.npy", 2 * data.astype(int) - 1)


FILES: dict[str, Callable[[Path], None]] = {"W.npy": own_model, "samples.npy": own_model, "bars.npz": bars, "bars.npy": bars}


@functools.cache
def default_run() -> Path:
    """The folder of a run of the default grid, made once."""
    folder = Path(tempfile.mkdtemp()) / "run"
    done = execute(["thermo", "run", "--grid", "default", "--out", str(folder)], Path.cwd())
    if done.returncode not in (0, 10):
        raise PageError(f"the default grid ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return folder


def execute(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one command of the program, or a Python script of this checkout, at 120 columns."""
    if command[0] == "thermo":
        command = [sys.executable, "-P", "-c", "from thermokernels_app.main import main; main()", *command[1:]]
    elif command[0] == "python":
        command = [sys.executable, str(ROOT / command[1]), *command[2:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@functools.cache
def output_of(command: str) -> tuple[str, ...]:
    """The lines that a command prints, white space at their ends apart."""
    words = [str(default_run()) if word == "RUN" else word for word in shlex.split(command)]
    folder = Path(tempfile.mkdtemp())
    try:
        for make in {FILES[word] for word in words if word in FILES}:
            make(folder)
        done = execute(words, folder)
    finally:
        shutil.rmtree(folder)
    if done.returncode not in (0, 10, 11):
        raise PageError(f"{command}: ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return tuple(line.rstrip() for line in done.stdout.splitlines())


def skeleton(line: str) -> str:
    """A line without its numbers, white space and rules of tables squeezed."""
    return re.sub(r"[\s─-]+", " ", NUMBER.sub("#", line)).strip()


def numbers(line: str) -> list[float]:
    """The numbers of a line but for those of a machine."""
    return [float(number) for number in NUMBER.findall(OF_A_MACHINE.sub("", line))]


def differs(shown: str, printed: str, within: float) -> bool:
    """Whether two lines of one skeleton hold numbers that do not agree, those of rounding apart."""
    pairs = [*zip(numbers(shown), numbers(printed), strict=False)]
    left_over = [max(abs(one), abs(other)) < LEFT_OVER for one, other in pairs]
    return any(
        not rounding and not _margin(k, pairs, left_over) and abs(one - other) > within * max(abs(one), abs(other))
        for k, ((one, other), rounding) in enumerate(zip(pairs, left_over, strict=True))
    )


def _margin(k: int, pairs: list[tuple[float, float]], left_over: list[bool]) -> bool:
    """Whether the k-th numbers are, in both lines, the logarithm of a ratio of one that rounding left to another of the line."""
    return any(
        all(0 < pairs[i][side] < pairs[j][side] and _alike(pairs[k][side], math.log(pairs[j][side] / pairs[i][side])) for side in (0, 1))
        for i in range(len(pairs))
        if left_over[i]
        for j in range(len(pairs))
    )


def _alike(shown: float, exact: float) -> bool:
    return abs(shown - exact) < 1e-3 * max(1.0, abs(exact))


def likeness(shown: str, printed: str) -> int:
    """How many whole numbers two lines share: rows of a table are told apart by them."""
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)
    return sum(one == other and one.isdigit() for one, other in pairs)


def regenerated(body: str, printed: tuple[str, ...], within: float) -> tuple[str, list[str]]:
    """The block with today's lines, and which of its lines differ."""
    lines, found, start = [], [], 0
    for line in body.splitlines():
        if not line.strip() or line.strip() == "..." or line.startswith(("```", "$ ")):
            lines.append(line)
            continue
        wanted = skeleton(line)
        order = [*range(start, len(printed)), *range(start)]
        candidates = [k for k in order if skeleton(printed[k]) == wanted]
        if not candidates:
            raise PageError(f"no line of the output is like {line.strip()!r}")
        place = max(candidates, key=lambda k: likeness(line, printed[k]))  # the next one where several are as like
        start = place + 1
        lines.append(printed[place])
        if differs(line, printed[place], within):
            found.append(f"shown   {line.strip()}\n  printed {printed[place].strip()}")
    return "\n".join(lines) + "\n", found


def whole(body: str, printed: tuple[str, ...], within: float) -> tuple[str, list[str]]:
    """The block with all lines of the output, and which of its lines differ."""
    fences = [line for line in body.splitlines() if line.startswith("```")]
    shown = [line for line in body.splitlines() if not line.startswith("```")]
    found = [] if len(shown) == len(printed) else [f"shows {len(shown)} lines, {len(printed)} are printed"]
    for line, current in zip(shown, printed, strict=False):
        if skeleton(line) != skeleton(current) or differs(line, current, within):
            found.append(f"shown   {line.strip()}\n  printed {current.strip()}")
    return "\n".join([*fences[:1], *printed, *fences[1:]]) + "\n", found


def pages() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def wanted(block: re.Match[str], options: argparse.Namespace) -> bool:
    needs_run = "RUN" in shlex.split(block["command"])
    return (options.long or block["long"] is None) and not (options.quick and needs_run)


def run_all(options: argparse.Namespace) -> None:
    """Every command once, side by side; what one of them raises is raised again where its block is compared."""
    blocks = [block for page in pages() for block in BLOCK.finditer(page.read_text(encoding="utf-8")) if wanted(block, options)]
    commands = dict.fromkeys(block["command"] for block in blocks)
    if any("RUN" in shlex.split(command) for command in commands):
        default_run()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for command in commands:
            pool.submit(output_of, command)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put today's lines in the pages")
    parser.add_argument("--quick", action="store_true", help="leave out what needs a run of the default grid")
    parser.add_argument("--long", action="store_true", help="the blocks that take minutes too")
    options = parser.parse_args()
    run_all(options)
    wrong = 0
    print(f"{'page':32} {'blocks':>6}  result")
    for page in pages():
        text = page.read_text(encoding="utf-8")
        blocks = [match for match in BLOCK.finditer(text) if wanted(match, options)]
        problems: list[str] = []
        for match in reversed(blocks):
            try:
                renew = whole if match["whole"] else regenerated
                body, found = renew(match["body"], output_of(match["command"]), float(match["within"] or WITHIN))
            except (PageError, ImportError) as error:
                problems.append(f"{match['command']}: {error}")
                continue
            problems += [f"{match['command']}\n  {line}" for line in found]
            if options.write:
                text = text[: match.start("body")] + body + text[match.end("body") :]
        if options.write:
            page.write_text(text, encoding="utf-8")
        if blocks:
            print(f"{page.relative_to(ROOT)!s:32} {len(blocks):6}  {f'{len(problems)} differ' if problems else 'agrees'}")
        for problem in reversed(problems):
            print(f"  {problem}")
        wrong += len(problems)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
