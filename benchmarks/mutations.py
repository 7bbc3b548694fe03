"""Mutation testing: formulas are changed one operator or number at a time, and the tests that mirror the file have to fail.

    python benchmarks/mutations.py [--count 300] [--seed 0] [--only thermokernels/quantities] [--limit 60] [--kernels 0.1]

Mutants are drawn from all of thermokernels/ and adjoints/, messages (raise, f-strings, docstrings) left out: + and -, * and / exchanged, a
term or factor dropped, a comparison turned, a number doubled or moved by one, min and max exchanged. Each is written into a copy of the
tree, in place, so that no other line moves, and tests/<path>/test_<name>.py runs there until the first failure.

What makes it cheap: numba, SciPy and pytest are imported once and forked for every mutant; and kernels are compiled once, since outside of
a kernel no mutant changes what is compiled. Those inside of one would have everything compiled again: ``--kernels`` is their share of the
draw, and they run without compilation by the tests marked small.

A survivor is a gap or an equivalent program: the list is for reading. Exit code 1 where more than 5 % survive.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("thermokernels", "adjoints")
EXCHANGED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
TURNED = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
MESSAGES = ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert
SURVIVORS = 0.05
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
SURVIVED, CAUGHT, SLOW = 0, 1, 2


@dataclass(frozen=True)
class Mutant:
    """One change of a file: ``stood`` from ``start`` to ``stop`` (line from one, column in bytes) becomes ``new``."""

    path: Path
    word: str
    stood: str
    new: str
    start: tuple[int, int]
    stop: tuple[int, int]
    in_kernel: bool

    def written(self) -> str:
        """The source of the file with the change; the line breaks of what stood there are kept at its end."""
        lines = (ROOT / self.path).read_bytes().splitlines(keepends=True)
        (first, left), (last, right) = self.start, self.stop
        changed = lines[first - 1][:left] + f"({self.new})".encode() + b"\\\n" * (last - first) + lines[last - 1][right:]
        return b"".join([*lines[: first - 1], changed, *lines[last:]]).decode()


def places(tree: ast.AST, in_kernel: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node of a formula, and whether it is compiled: messages, annotations and docstrings left out."""
    if isinstance(tree, ast.FunctionDef):
        in_kernel = any(word in ast.unparse(decorator) for decorator in tree.decorator_list for word in ("jit", "intrinsic"))
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and not isinstance(node, MESSAGES):
                yield node, in_kernel
                yield from places(node, in_kernel)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a node can be changed to, with a word for it."""
    if isinstance(node, ast.BinOp) and type(node.op) in EXCHANGED:
        yield "operator", ast.BinOp(node.left, EXCHANGED[type(node.op)](), node.right)
        yield "right part dropped", node.left
        if isinstance(node.op, ast.Add | ast.Mult):
            yield "left part dropped", node.right
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
        yield "comparison", ast.Compare(node.left, [TURNED[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield "number", ast.Constant(node.value + 1 if type(node.value) is int else 2 * node.value + (node.value == 0.0))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
        yield "min and max", ast.Call(ast.Name("max" if node.func.id == "min" else "min", ast.Load()), node.args, node.keywords)


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of a file."""
    found, source = [], (ROOT / path).read_text(encoding="utf-8")
    for node, in_kernel in places(ast.parse(source), in_kernel="@jit" in source):  # constants beside kernels are compiled into them
        for word, new in changes(node):
            assert isinstance(node, ast.expr)
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            ends = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
            found.append(Mutant(path, word, ast.unparse(node), ast.unparse(new), *ends, in_kernel))
    return found


def mirror(path: Path) -> list[str]:
    """The tests of a file, and those of the terms of bounds."""
    own = Path("tests", path.parent, f"test_{path.name}")
    return [str(one) for one in (own, Path("tests/thermokernels/test_bound_terms.py")) if (ROOT / one).exists()]


def outcome(tree: Path, mutant: Mutant, limit: float) -> int:
    """Whether the mirrored tests pass, fail, or take more than so many seconds of a core, in a copy of the tree with the change."""
    target = tree / mutant.path
    before = target.read_bytes()
    target.write_text(mutant.written(), encoding="utf-8")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
        signal.alarm(30 * int(limit))  # of one that waits for ever
        os._exit(_tested(tree, mirror(mutant.path), plain=mutant.in_kernel))
    status = os.waitpid(child, 0)[1]
    target.write_bytes(before)
    if os.WIFSIGNALED(status):
        return SLOW if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM) else CAUGHT
    return SURVIVED if os.WEXITSTATUS(status) in (0, 5) else CAUGHT  # 5: no test was there to fail


def _tested(tree: Path, tests: list[str], plain: bool) -> int:
    """pytest's exit code for some tests of a copy of the tree, in this process."""
    import numba
    import numba.core.caching
    import pytest

    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    numba.config.DISABLE_JIT = int(plain)
    # a file with a change outside of its kernels is a new one to the cache of kernels; what a kernel is called and reads is still compared
    numba.core.caching._SourceFileBackedLocatorMixin.get_source_stamp = lambda _: (0.0, 0)
    import thermokernels.compiled.decorator as decorator

    decorator.kernel_hash = lambda: "mutations"
    options = ["-q", "-x", "-n", "0", "--dist", "no", "-p", "no:cacheprovider", "-p", "no:randomly", *(["-m", "small"] if plain else [])]
    return int(pytest.main([*options, *tests]))


def drawn(seed: int, count: int, only: str, share: float) -> tuple[list[Mutant], int]:
    """A sample of mutants, a share of it inside of kernels, and how many there are."""
    files = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    files = [path for path in files if str(path).startswith(only) and str(Path("tests", path.parent, f"test_{path.name}")) in mirror(path)]
    everything = [mutant for path in files for mutant in mutants(path)]
    draws = random.Random(seed)
    chosen = []
    for inside, wanted in ((True, round(share * count)), (False, count - round(share * count))):
        kind = [mutant for mutant in everything if mutant.in_kernel is inside]
        chosen += draws.sample(kind, min(wanted, len(kind)))
    return chosen, len(everything)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files below this path only")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a core for one mutant; what takes more is told apart")
    parser.add_argument("--kernels", type=float, default=0.1, help="share of mutants inside of kernels, which run without compilation")
    options = parser.parse_args()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    import numba  # noqa: F401 - imported once, for all mutants
    import pytest  # noqa: F401
    import scipy.linalg
    import scipy.sparse.csgraph  # noqa: F401

    chosen, total = drawn(options.seed, options.count, options.only, options.kernels)
    print(f"{total} mutants, {len(chosen)} of them drawn with seed {options.seed}", flush=True)
    counts = dict.fromkeys((SURVIVED, CAUGHT, SLOW), 0)
    folder = Path(tempfile.mkdtemp())  # no TemporaryDirectory: a fork of this process would take it away at its end
    try:
        tree = folder / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__", "site", "runs", ".mypy_cache"))
        os.environ["NUMBA_CACHE_DIR"] = str(folder / "kernels")
        for mutant in chosen:
            found = outcome(tree, mutant, options.limit)
            counts[found] += 1
            words = {SURVIVED: "SURVIVES", CAUGHT: "caught  ", SLOW: "too slow"}[found]
            print(f"{words} {mutant.path}:{mutant.start[0]} {mutant.word}: {mutant.stood} -> {mutant.new}", flush=True)
    finally:
        shutil.rmtree(folder)
    decided = counts[SURVIVED] + counts[CAUGHT]
    share = counts[SURVIVED] / max(1, decided)
    print(f"{counts[SURVIVED]} of {decided} survive ({share:.1%}), {counts[SLOW]} ended by the limit; wanted: at most {SURVIVORS:.0%}")
    return int(share > SURVIVORS)


if __name__ == "__main__":
    sys.exit(main())
