"""Mutation testing: formulas are changed one operator or number at a time, and the tests that mirror the file have to fail.

    python benchmarks/mutations.py [--count 300] [--seed 0] [--only thermokernels/quantities] [--limit 300]

Mutants are drawn from all of thermokernels/ and adjoints/, messages (raise, f-strings, docstrings) left out: + and -, * and / exchanged, a
term or factor dropped, a comparison turned, a number doubled or moved by one, min and max exchanged. Each is written into a copy of the
tree, where tests/<path>/test_<name>.py runs, kernels without compilation by the tests marked small. A survivor is a gap or an equivalent
program: the list is for reading. Exit code 1 where more than 5 % survive.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("thermokernels", "adjoints")
EXCHANGED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
TURNED = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SURVIVORS = 0.05


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a formula: messages, annotations and docstrings left out."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and not isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
                yield node
                yield from places(node)


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


def mutants(path: Path) -> list[tuple[int, str, str, int, int]]:
    """(line, word, what stood there, which place, which of its changes)."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return [
        (node.lineno, word, ast.unparse(node), number, choice)
        for number, node in enumerate(places(tree))
        for choice, (word, _) in enumerate(changes(node))
    ]


def mutated(path: Path, number: int, choice: int) -> str:
    """The source of a file with one change."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    target = next(node for k, node in enumerate(places(tree)) if k == number)
    return ast.unparse(ast.fix_missing_locations(_Replace(target, [new for _, new in changes(target)][choice]).visit(tree)))


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().generic_visit(node)


def mirror(path: Path) -> list[Path]:
    """The tests of a file, and those of the terms of bounds."""
    own = Path("tests", path.parent, f"test_{path.name}")
    return [one for one in (own, Path("tests/thermokernels/test_bound_terms.py")) if (ROOT / one).exists()]


def survives(tree: Path, path: Path, source: str, limit: float) -> bool:
    """Whether the mirrored tests pass in a copy of the tree where a file has this source."""
    before, kernels = (tree / path).read_text(encoding="utf-8"), "@jit" in source
    (tree / path).write_text(source, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tree)} | ({"NUMBA_DISABLE_JIT": "1"} if kernels else {})
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *map(str, mirror(path))]
    try:
        ended = subprocess.run(
            [*command, *(["-m", "small"] if kernels else [])], cwd=tree, env=environment, capture_output=True, timeout=limit
        )
        return ended.returncode in (0, 5)  # 5: no test was there to fail
    except subprocess.TimeoutExpired:
        return False
    finally:
        (tree / path).write_text(before, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files below this path only")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that the tests of one mutant may take: more is a mutant caught")
    options = parser.parse_args()
    files = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    files = [
        path
        for path in files
        if str(path).startswith(options.only) and mirror(path)[:1] == [Path("tests", path.parent, f"test_{path.name}")]
    ]
    everything = [(path, *mutant) for path in files for mutant in mutants(ROOT / path)]
    chosen = random.Random(options.seed).sample(everything, min(options.count, len(everything)))
    print(f"{len(everything)} mutants of {len(files)} files, {len(chosen)} of them drawn with seed {options.seed}", flush=True)
    left = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__", "site", "runs"))
        for path, line, word, stood, *which in chosen:
            alive = survives(tree, path, mutated(path, *which), options.limit)
            left += alive
            print(f"{'SURVIVES' if alive else 'caught  '} {path}:{line} {word}: {stood}", flush=True)
    share = left / max(1, len(chosen))
    print(f"{left} of {len(chosen)} survive ({share:.1%}); wanted: at most {SURVIVORS:.0%}, equivalents apart")
    return int(share > SURVIVORS)


if __name__ == "__main__":
    sys.exit(main())
