"""What is built and installed: nothing generic reaches site-packages, the sdist is a checkout, and the command runs from each of them."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"thermokernels", "adjoints", "thermokernels_bridges", "thermokernels_app"}
OF_A_CHECKOUT = {"tests", "docs", "validation", "benchmarks", "examples", "cli"}
NOT_COPIED = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", "build", "dist", ".*_cache", "runs", "_build", ".hypothesis")


def python(*arguments, cwd, path=()):
    """A new process that finds ``path`` first; its output."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "140"}
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind, tree, folder):
    """The wheel or sdist as the backend of pyproject.toml builds it: no network, no other environment."""
    folder.mkdir(parents=True)
    python("-c", f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})", cwd=tree)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources: a build leaves folders behind."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("clone") / "thermokernels", ignore=NOT_COPIED)


@pytest.fixture(scope="module")
def unpacked(checkout, tmp_path_factory):
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", checkout, folder / "built")) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = (path for path in folder.iterdir() if path.name != "built")
    return tree


@pytest.fixture(scope="module")
def installed(unpacked, tmp_path_factory):
    """A folder into which pip installed the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("site")
    wheel = build("wheel", unpacked, folder / "built")
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", folder / "site")
    python("-m", "pip", "install", *options, wheel, cwd=folder)
    return folder / "site"


pytestmark = pytest.mark.xdist_group("packaging")


def test_nothing_generic_is_installed(installed):
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert names - {"bin", "Scripts"} == PACKAGES
    assert (installed / "thermokernels_app" / "report" / "page.html.j2").exists()
    assert all((installed / name / "py.typed").exists() for name in PACKAGES)
    assert [path.name for path in (installed / "bin" if os.name == "posix" else installed / "Scripts").iterdir()] == ["thermo"]


def test_an_installation_has_every_source(installed):
    def sources(root):
        return {path.relative_to(root).as_posix() for name in PACKAGES for path in (root / name).rglob("*.py")}

    assert sources(installed) == sources(ROOT)


def test_the_command_runs_from_an_installation(installed, tmp_path):
    code = "import thermokernels_app.main as m; print(m.__file__); m.main()"
    place, *help_ = python("-P", "-c", code, "--help", cwd=tmp_path, path=[installed]).splitlines()
    assert Path(place).is_relative_to(installed)
    assert any("diagnose" in line for line in help_)
    assert "thermo 0." in python("-m", "thermokernels", "--version", cwd=tmp_path, path=[installed])


def test_an_editable_installation_exposes_the_packages_and_nothing_else(checkout, tmp_path):
    with zipfile.ZipFile(build("editable", checkout, tmp_path / "built")) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        f"import site; site.addsitedir({str(tmp_path / 'site')!r})\n"
        "from importlib.util import find_spec\n"
        f"names = {sorted(PACKAGES | OF_A_CHECKOUT)}\n"
        "specs = {name: find_spec(name) for name in names}\n"
        "print(*(name for name, spec in specs.items()"
        f" if spec and any(str(place).startswith({str(checkout)!r}) for place in [spec.origin, *(spec.submodule_search_locations or ())])))"
    )
    isolated = {"PATH": os.environ["PATH"]}  # another editable installation of this environment would be found first
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, env=isolated, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == PACKAGES


def test_the_sdist_is_a_checkout(unpacked):
    def files(root):
        skipped = {"PKG-INFO", "setup.cfg"}
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return {path.as_posix() for path in found if path.name not in skipped and not any(p.endswith(".egg-info") for p in path.parts)}

    if (ROOT / ".git").exists():
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        assert {name for name in tracked if (ROOT / name).exists()} <= files(unpacked)
    for name in ("docs/README.md", "examples/own_model.py", "tests/test_packaging.py", "validation/README.md", "benchmarks/grid.py"):
        assert (unpacked / name).exists(), name
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "cli.py", "pyproject.toml", ".ci/run"} <= files(unpacked)
    assert not any(name.endswith(".pyc") for name in files(unpacked))


def test_the_command_runs_from_a_tree_that_is_not_installed(unpacked):
    """By the face of a few lines, and as a module; what is imported lies in the tree."""
    for arguments in (("cli.py",), ("-m", "thermokernels")):
        assert "diagnose" in python(*arguments, "--help", cwd=unpacked)
    assert python("-c", "import thermokernels_app as app; print(app.__file__)", cwd=unpacked).startswith(str(unpacked))


def test_the_recipe_has_the_version_and_dependencies_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8")
    assert f'version: "{project["version"]}"' in recipe
    run = recipe[recipe.index("  run:") : recipe.index("tests:")]
    needed = {line.strip("- ").replace(" ", "") for line in run.splitlines()[1:] if line.strip()}
    assert needed == {*project["dependencies"], f"python{project['requires-python']}"}
