"""The table "to add X, touch Y" of ARCHITECTURE.md, each row done once on a copy of this tree and then used."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.house

ROOT = Path(__file__).parents[1]
PACKAGES = ("thermokernels", "adjoints", "thermokernels_bridges", "thermokernels_app")

KERNEL = '''"""The two-block sampler once more, under a name of its own."""

from thermokernels.model.kernels.two_block import TwoBlock


class CoinFlipBlocks(TwoBlock):
    """P = (Pi_v + Pi_h) / 2."""

    name = "coin-flip-blocks"
'''

QUANTITY = '''"""The mean energy of a chain."""

from thermokernels.model.chain import GibbsChain


def mean_energy(chain: GibbsChain) -> float:
    """E_pi[E], in units of the temperature."""
    return float(chain.law @ chain.energy)
'''

GRADIENT = '''"""Gradient of the mean energy."""

import numpy as np

from thermokernels.model.chain import gibbs_chain
from thermokernels.quantities.mean_energy import mean_energy as value_of
from thermokernels.quantities.variance_time import correlations


# dE_pi[E] / dW_kl = Cov_pi(E, v_k h_l) - E_pi[v_k h_l]
def mean_energy(W):
    """E_pi[E] and its gradient (n_v, n_h)."""
    chain = gibbs_chain(W)
    value = value_of(chain)
    return value, correlations(chain, chain.law * (chain.energy - value - 1.0))
'''

VERDICT = '''"""P9: a verdict that asks whether there is any cell at all."""


def rule(verdict, records):
    verdict.require("cells", ">=", 1, len(records.keys), "cells")
'''

COMMAND = '''"""A command that greets."""


def hello() -> None:
    """Say hello."""
    print("hello")
'''

IMPORTER = '''

def from_pairs(pairs):
    """Couplings from {(i, j): w}."""
    n_visible, n_hidden = (1 + max(place) for place in zip(*pairs))
    return Model([[pairs.get((i, j), 0.0) for j in range(n_hidden)] for i in range(n_visible)])
'''

ESTIMATOR = '''

def _by_pair(series):
    """From the first lag alone: (1 + rho_1) / (1 - rho_1)."""
    centred = series - series.mean()
    rho = (centred[:, 1:] * centred[:, :-1]).mean() / (centred**2).mean()
    return float((1 + rho) / (1 - rho))


def _average(covariances, n_chains):
    tau = (covariances[0] + covariances[1]) / (covariances[0] - covariances[1])
    return tau, tau


ESTIMATORS["first lag"] = Estimator("numpy", _by_pair, _average)
'''

USE = """
import numpy as np, thermokernels as tk, adjoints
from thermokernels_app.judges import verdicts
W = np.array([[0.5, -0.2], [0.1, 0.3]])
chain = tk.gibbs_chain(W, kernel="coin-flip-blocks")
same = tk.gibbs_chain(W, kernel="two-block")
assert tk.observable_variance_time(chain) == tk.observable_variance_time(same), "kernel"
assert tk.sample(W, n_chains=2, n_sweeps=3, seed=0, kernel="coin-flip-blocks").visible.shape == (3, 2, 2), "kernel"
value, gradient = adjoints.mean_energy(W)
slope = (tk.mean_energy(tk.gibbs_chain(W + 1e-6 * np.eye(2))) - tk.mean_energy(tk.gibbs_chain(W - 1e-6 * np.eye(2)))) / 2e-6
assert abs(np.trace(gradient) - slope) < 1e-8, "quantity"
from thermokernels_app.experiment.design import Design
assert "P9" in verdicts.judge(Design().as_dict(), [], [], []), "verdict"
assert tk.from_pairs({(0, 1): 2.0}).W.tolist() == [[0.0, 2.0]], "importer"
trace = tk.sample(W, n_chains=4, n_sweeps=500, seed=0).visible
rows = tk.compare(np.moveaxis(trace, 1, 0), W, every=1).rows
assert any(estimate.estimator == "first lag" for row in rows for estimate in row.estimates), "estimator"
print("all used")
"""


def append(path, text):
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the packages with one more of everything."""
    root = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "cli.py"):
        shutil.copy(ROOT / file, root)
    (root / "tests").mkdir()
    kernels, public = root / "thermokernels/model/kernels", root / "thermokernels/public.py"
    # a kernel: a file, a line in the registry, a line in the table of its tests
    (kernels / "coin_flip_blocks.py").write_text(KERNEL)
    replace(kernels / "registry.py", "\n_ALL", "from thermokernels.model.kernels.coin_flip_blocks import CoinFlipBlocks\n\n_ALL")
    replace(kernels / "registry.py", "    TwoBlock(),\n", "    TwoBlock(),\n    CoinFlipBlocks(),\n")
    shutil.copy(ROOT / "tests/thermokernels/model/test_kernels.py", root / "tests")
    line = '    "coin-flip-blocks": Twin(lambda of: (of.visible + of.hidden) / 2),\n'
    replace(root / "tests/test_kernels.py", "TWINS = {\n", "TWINS = {\n" + line)
    # a quantity: a file, its export, its gradient across the hall, a line in the pairs
    (root / "thermokernels/quantities/mean_energy.py").write_text(QUANTITY)
    replace(public, "\ntry:\n", "from thermokernels.quantities.mean_energy import mean_energy\n\ntry:\n")
    (root / "adjoints/mean_energy.py").write_text(GRADIENT)
    append(root / "adjoints/__init__.py", "\nfrom adjoints.mean_energy import mean_energy\n")
    # a verdict, a command, an importer, an estimator
    judgement = root / "thermokernels_app/judges/verdicts/judgement.py"
    (judgement.parent / "p9_any_cell.py").write_text(VERDICT)
    append(
        judgement, '\nfrom thermokernels_app.judges.verdicts import p9_any_cell\n\nRULES["P9"] = ("There is a cell.", p9_any_cell.rule)\n'
    )
    (root / "thermokernels_app/commands/hello.py").write_text(COMMAND)
    append(root / "thermokernels_app/main.py", "\nfrom thermokernels_app.commands import hello\n\napp.command()(hello.hello)\n")
    append(root / "thermokernels/model/importers.py", IMPORTER)
    replace(public, "\ntry:\n", "from thermokernels.model.importers import from_pairs\n\ntry:\n")
    append(root / "thermokernels/comparison/estimators.py", ESTIMATOR)
    return root


def run(tree, *command):
    environment = os.environ | {"PYTHONPATH": str(tree), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-P", *command], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_was_added_is_there(tree):
    assert run(tree, "-c", USE).strip() == "all used"


def test_a_new_kernel_is_tested_by_its_line_in_the_table(tree):
    options = ("-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tree), "-p", "no:cacheprovider", "-p", "no:xdist")
    chosen = "coin-flip-blocks and not larger and not samples"
    shown = run(tree, "-m", "pytest", *options, "-o", "addopts=", "-k", chosen, "tests/test_kernels.py")
    assert int(re.search(r"(\d+) passed", shown)[1]) >= 5


def test_a_new_command_is_called(tree):
    assert run(tree, str(tree / "cli.py"), "hello") == "hello\n"


@pytest.mark.skipif(find_spec("importlinter") is None, reason="import-linter is not installed: pip install '.[test]'")
def test_the_layers_hold_with_them(tree):
    assert "0 broken" in run(tree, "-c", "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])")


def test_every_row_of_the_table_is_done_here():
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## To add something")[2]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| a")]
    assert rows == [
        "a kernel", "a quantity", "a verdict", "a command", "an importer", "an estimator for `thermo compare`",
    ]  # fmt: skip
    for path in re.findall(r"`((?:thermokernels|adjoints|tests)[\w/.]*)`", table):
        assert (ROOT / path).exists(), path
