"""Mutation testing: formulas are changed one operator or number at a time, and the tests that mirror the file have to fail.

    python benchmarks/mutations.py [--count 300] [--seed 0] [--only thermokernels/quantities] [--folder F] | tee log
    python benchmarks/mutations.py --repeat log            what survives there, once more

Mutants are drawn from all of thermokernels/ and adjoints/, messages (raise, f-strings, docstrings) left out: + and -, * and / exchanged, a
term or factor dropped, a comparison turned, a number doubled or moved by one, min and max exchanged. tests/<path>/test_<name>.py runs in a
copy of the tree until the first failure, quick cases first and without those marked long. Mutants come in the order of the draw, so that
a run that is ended early is a sample too.

What makes it cheap: a process that has imported everything is forked for each mutant, where the code of the changed function is exchanged;
kernels are compiled once, since outside of a kernel no mutant changes what is compiled. What lies outside of functions, and whatever
survives, runs in a fork that imports the changed file from the start. A test that fails is run once more as things are, instead of all
tests before: where it fails then too, it is left out. Mutants inside of kernels run without compilation by the tests marked small, and what
survives there with everything compiled again: ``--kernels`` is their share of the draw. ``--folder`` keeps copy and compiled kernels for
the next run of the same commit.

A survivor is a gap or an equivalent program: the list is for reading. Exit code 1 where more than 5 % survive.
"""

from __future__ import annotations

import argparse
import ast
import functools
import gc
import importlib
import itertools
import os
import pkgutil
import random
import resource
import shutil
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("thermokernels", "adjoints")
EXCHANGED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
TURNED = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPILED_BY = ("jit", "inlined", "intrinsic", "overload", "lower_builtin", "type_callable", "register_model")
MESSAGES = ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert
SURVIVORS = 0.05
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
SURVIVED, CAUGHT, SLOW, UNTRIED = 0, 1, 2, 3
COMPILING = 5  # times as many seconds where everything is compiled anew
BROKEN: set[str] = set()  # tests that fail without a change
COMPILED: set[tuple[Path, bool]] = set()  # files whose tests have run as they are
AHEAD = itertools.count(2**31)
WORDS = {SURVIVED: "SURVIVES", CAUGHT: "caught  ", SLOW: "too slow", UNTRIED: "untried "}


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

    def __str__(self) -> str:
        return f"{self.path}:{self.start[0]} {self.word}: {self.stood} -> {self.new}"

    def written(self) -> str:
        """The source of the file with the change; the line breaks of what stood there are kept at its end."""
        lines = (ROOT / self.path).read_bytes().splitlines(keepends=True)
        (first, left), (last, right) = self.start, self.stop
        changed = lines[first - 1][:left] + f"({self.new})".encode() + b"\\\n" * (last - first) + lines[last - 1][right:]
        return b"".join([*lines[: first - 1], changed, *lines[last:]]).decode()


def places(tree: ast.AST, in_kernel: bool, around: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node of a formula, and whether it is compiled: messages, annotations and docstrings left out.

    ``around``: whether functions inside are, whatever they are decorated with, as those that intrinsics are made of and plain twins.
    """
    if isinstance(tree, ast.FunctionDef):
        around = around or any(word in ast.unparse(decorator) for decorator in tree.decorator_list for word in COMPILED_BY)
        in_kernel = around
    elif isinstance(tree, ast.If) and "DISABLE_JIT" in ast.unparse(tree.test):
        around = True
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and not isinstance(node, MESSAGES):
                yield node, in_kernel
                yield from places(node, in_kernel, around)


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
    compiled = "@jit" in source or "DISABLE_JIT" in source  # constants beside kernels are compiled into them, and twins run in their place
    for node, in_kernel in places(ast.parse(source), compiled):
        for word, new in changes(node):
            assert isinstance(node, ast.expr)
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            ends = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
            found.append(Mutant(path, word, ast.unparse(node), ast.unparse(new), *ends, in_kernel))
    return found


def mirror(path: Path) -> list[str]:
    """The tests of a file, and those of the terms and of the counts of bounds."""
    own = Path("tests", path.parent, f"test_{path.name}")
    bounds = (Path("tests/thermokernels", f"test_bound_{what}.py") for what in ("terms", "counts", "spectra"))
    return [str(one) for one in (own, *bounds) if (ROOT / one).exists()]


def copied(tree: Path) -> None:
    """The tree, with one cache of kernels for whatever is written into it."""
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__", "site", "runs", ".mypy_cache"))
    decorator = tree / "thermokernels/compiled/decorator.py"
    source, named = decorator.read_text(encoding="utf-8"), "return digest.hexdigest()"
    assert source.count(named) == 1
    decorator.write_text(source.replace(named, 'return "mutations"'), encoding="utf-8")


def imported(tree: Path) -> None:
    """Everything that tests import, from a copy of the tree, once for all forks."""
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False  # tests are rewritten, and modules compiled, once for all forks
    import hypothesis  # noqa: F401
    import numba.core.caching
    import pytest  # noqa: F401
    import scipy.linalg
    import scipy.sparse.csgraph  # noqa: F401

    # a file with a change outside of its kernels is a new one to the cache of kernels; what a kernel is called and reads is still compared
    numba.core.caching._SourceFileBackedLocatorMixin.get_source_stamp = lambda _: (0.0, 0)
    for name in PACKAGES:
        for module in pkgutil.walk_packages([str(tree / name)], f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def exchanged(tree: Path, mutant: Mutant) -> bool:
    """Gives the functions of a file the code that they have with the change; false where it lies outside of functions."""
    path = str(tree / mutant.path)
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes(compile(mutant.written(), path, "exec"))}
    changed = False
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType) and function.__code__.co_filename == path:
            code = codes.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
            if code is not None and code != function.__code__:
                if code.co_freevars != function.__code__.co_freevars:
                    return False
                function.__code__, changed = code, True
        elif isinstance(function, functools._lru_cache_wrapper):
            function.cache_clear()
    return changed


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def outcome(tree: Path, mutant: Mutant, limit: float) -> int:
    """Whether the mirrored tests pass, fail, or take more than so many seconds of a core; untried where they fail without a change."""
    if mutant.in_kernel:
        ways = (forgotten, True, limit), (compiled_anew, False, COMPILING * limit)
    else:
        ways = (functools.partial(exchanged, tree, mutant), False, limit), (forgotten, False, limit)
    for prepare, plain, seconds in ways:
        found = forked(tree, mutant, seconds, prepare, plain)
        if found == SLOW and (mutant.path, plain) not in COMPILED:  # kernels that no test of the file had needed yet
            COMPILED.add((mutant.path, plain))
            passes(mutant.path, plain, limit)
            found = forked(tree, mutant, seconds, prepare, plain)
        if found == CAUGHT and not (right := rightly(mutant.path, plain, limit)):
            return UNTRIED if right is None else outcome(tree, mutant, limit)
        if found != SURVIVED:
            return found
    return SURVIVED


def rightly(path: Path, plain: bool, limit: float) -> bool | None:
    """Whether the test that has just failed passes without a change; if not it is left out from now on. None: no test of the file runs."""
    failed = Path("../failed").read_text() if Path("../failed").exists() else ""
    if not failed:  # where none began
        return passes(path, plain, limit) or None
    if passes(path, plain, limit, failed):
        return True
    BROKEN.add(failed)
    print("broken  ", failed, flush=True)
    return False


def forked(tree: Path, mutant: Mutant, limit: float, prepare: Callable[[], bool], plain: bool) -> int:
    """The same in one fork, prepared in one of several ways; the file has the change."""
    target = tree / mutant.path
    before, modified = target.read_bytes(), target.stat().st_mtime
    target.write_text(mutant.written(), encoding="utf-8")
    os.utime(target, 2 * (next(AHEAD),))  # of no two mutants the same: compiled modules are told apart by it
    found = in_fork(mutant.path, plain, limit, prepare)
    target.write_bytes(before)
    os.utime(target, 2 * (modified,))
    return found


@functools.cache
def passes(path: Path, plain: bool, limit: float, test: str = "") -> bool:
    """Whether a test, or those of a file, pass without a change; what kernels they need is compiled then."""
    return in_fork(path, plain, 10 * limit, forgotten if plain else lambda: True, test) == SURVIVED


def forgotten() -> bool:
    """Has everything of the packages imported anew."""
    for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
        del sys.modules[name]
    return True


def compiled_anew() -> bool:
    """The same with kernels that are compiled anew."""
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(dir="..")
    return forgotten()


def in_fork(path: Path, plain: bool, limit: float, changed: Callable[[], bool], test: str = "") -> int:
    """What comes of a test, or of those of a file, in a process that makes a change before."""
    Path("../failed").unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
        signal.alarm(30 * int(limit))  # of one that waits for ever
        os._exit(_tested([test] if test else mirror(path), plain) if changed() else SURVIVED)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return SLOW if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM) else CAUGHT
    return SURVIVED if os.WEXITSTATUS(status) in (0, 5) else CAUGHT  # 5: no test was there to fail


class QuickFirst:
    """Cases in the order of the seconds that they took before in this folder; what no mutant has run yet comes after what is known."""

    def __init__(self, known: Path) -> None:
        self.known = known
        lines = known.read_text().splitlines() if known.exists() else []
        self.seconds = {name: float(seconds) for seconds, name in (line.split(" ", 1) for line in lines)}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = sorted((item for item in items if item.nodeid not in BROKEN), key=lambda item: self.seconds.get(item.nodeid, 1.0))

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            Path("../failed").write_text(report.nodeid)
        if report.when == "call" and report.passed and report.nodeid not in self.seconds:
            with self.known.open("a") as file:
                file.write(f"{report.duration:.4f} {report.nodeid}\n")


def _tested(tests: list[str], plain: bool) -> int:
    """pytest's exit code for some tests of the folder, in this process."""
    import numba
    import pytest

    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    numba.config.DISABLE_JIT = int(plain)
    options = ["-q", "-x", "-n", "0", "--dist", "no", "-p", "no:cacheprovider", "-p", "no:randomly"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-m", "small" if plain else "not long"]
    return int(pytest.main([*options, *tests], plugins=[QuickFirst(Path("../seconds_plain" if plain else "../seconds"))]))


def everything(only: str) -> list[Mutant]:
    """Every mutant of the files that have tests of their own."""
    files = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    files = [path for path in files if str(path).startswith(only) and str(Path("tests", path.parent, f"test_{path.name}")) in mirror(path)]
    return [mutant for path in files for mutant in mutants(path)]


def drawn(among: list[Mutant], seed: int, count: int, share: float) -> list[Mutant]:
    """A sample of mutants, a share of it inside of kernels."""
    draws = random.Random(seed)
    chosen = []
    for inside, wanted in ((True, round(share * count)), (False, count - round(share * count))):
        kind = [mutant for mutant in among if mutant.in_kernel is inside]
        chosen += draws.sample(kind, min(wanted, len(kind)))
    draws.shuffle(chosen)
    return chosen


def repeated(among: list[Mutant], log: Path) -> list[Mutant]:
    """What survived by a run's output; lines may have moved since."""
    chosen = []
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("SURVIVES "):
            place, change = line.removeprefix("SURVIVES ").split(" ", 1)
            path, number = place.rsplit(":", 1)
            same = [mutant for mutant in among if str(mutant.path) == path and str(mutant).split(" ", 1)[1] == change]
            if not same:
                print(f"gone     {place} {change}")
                continue
            chosen.append(min(same, key=lambda mutant: abs(mutant.start[0] - int(number))))
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=0, help="how many of the draw another run has tried")
    parser.add_argument("--only", default="", help="files below this path only")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a core for one mutant; what takes more is told apart")
    parser.add_argument("--kernels", type=float, default=0.1, help="share of mutants inside of kernels, which run without compilation")
    parser.add_argument("--repeat", type=Path, help="output of an earlier run: what survived there only")
    parser.add_argument("--folder", type=Path, help="where the copy of the tree and compiled kernels are kept")
    options = parser.parse_args()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    among = everything(options.only)
    chosen = (
        repeated(among, options.repeat) if options.repeat else drawn(among, options.seed, options.count, options.kernels)[options.skip :]
    )
    print(f"{len(among)} mutants, {len(chosen)} of them drawn with seed {options.seed}", flush=True)
    counts = dict.fromkeys(WORDS, 0)
    folder = options.folder or Path(tempfile.mkdtemp())  # no TemporaryDirectory: a fork of this process would take it away at its end
    try:
        tree = folder.resolve() / "tree"
        copied(tree)
        os.environ["NUMBA_CACHE_DIR"] = str(folder.resolve() / "kernels")
        imported(tree)
        for mutant in chosen:
            found = outcome(tree, mutant, options.limit)
            counts[found] += 1
            print(WORDS[found], mutant, flush=True)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    decided = counts[SURVIVED] + counts[CAUGHT]
    share = counts[SURVIVED] / max(1, decided)
    print(f"{counts[SURVIVED]} of {decided} survive ({share:.1%}); wanted: at most {SURVIVORS:.0%}")
    print(f"{counts[SLOW]} were ended by the limit, {counts[UNTRIED]} untried: their tests fail without a change")
    return int(share > SURVIVORS)


if __name__ == "__main__":
    sys.exit(main())
