"""The habits of the house, each tool in a process of its own: lint, format, types, layers, examples, and kernels without compilation."""

import doctest
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
SOURCES = (*PACKAGES, "cli.py", "tests", "validation", "benchmarks", "examples")


def run(*command, cwd=ROOT, **variables):
    """Run a command; its output becomes the message of the failed test."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    result = subprocess.run(command, cwd=cwd, env=environment | variables, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        pytest.fail(f"{' '.join(map(str, command))} exited with {result.returncode}\n{result.stdout}\n{result.stderr}", pytrace=False)
    return result


def tool(name):
    """The path of an installed command, beside this interpreter or on PATH."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: pip install '.[test]'")
    return path


def test_ruff_check():
    run(tool("ruff"), "check", "--no-cache", *SOURCES)


def test_ruff_format():
    run(tool("ruff"), "format", "--check", "--no-cache", *SOURCES)


@pytest.mark.long
def test_mypy():
    packages = [option for name in PACKAGES for option in ("-p", name)]
    run(tool("mypy"), "--cache-dir", ROOT / ".mypy_cache", *packages)


def test_layers():
    run(tool("lint-imports"), "--no-cache")


# A bridge can be imported where its framework is.
BRIDGES = tuple(f"thermokernels_bridges.{name}" for name in ("scipy", "jax", "torch") if find_spec(name))


@pytest.mark.parametrize(
    ("packages", "least"),
    [
        (("thermokernels", "adjoints", *BRIDGES), 10),
        (("thermokernels_app.judges", "thermokernels_app.experiment"), 2),
    ],
)
def test_docstring_examples(packages, least, tmp_path):
    # pytest imports modules of the namespace package by a shorter name, which kernels in a cache that others read must not bear.
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")} if packages[0].startswith("thermokernels_app") else {}
    options = ("-q", "-n0", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider")
    result = run(sys.executable, "-P", "-m", "pytest", *options, "--doctest-modules", "--pyargs", *packages, cwd=tmp_path, **cache)
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= least


@pytest.mark.long
def test_small_tests_without_compilation(tmp_path):
    options = ("-q", "-n0", "-m", "small", "-p", "no:cacheprovider")
    result = run(sys.executable, "-P", "-m", "pytest", *options, str(ROOT / "tests"), NUMBA_DISABLE_JIT="1")
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 1000
    assert "kernels these were not called: none\n" in result.stdout, result.stdout[-2000:]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def blocks_of(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_the_pages(page, tmp_path, monkeypatch):
    """Python blocks with prompts are doctests; the others run as they stand, a page in one namespace and in an empty folder."""
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(page, "python")
    assert blocks or page != ROOT / "README.md"
    names = {"__name__": "page"}
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    for number, block in enumerate(blocks):
        if ">>>" in block:
            example = doctest.DocTestParser().get_doctest(block, names, f"{page.name} block {number}", page.name, 0)
            example.globs = names
            runner = doctest.DocTestRunner(optionflags=flags)
            report = []
            runner.run(example, out=report.append, clear_globs=False)
            assert not runner.failures, "".join(report)
        else:
            exec(compile(block, f"{page.name} block {number}", "exec"), names)


def anchors_of(page):
    """What the headings of a page are called in a link."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_pages_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", prose):
        if "://" not in target:
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in anchors_of(there), f"{target}#{anchor}"


def test_every_page_and_script_is_listed():
    """A page by a link of docs/README.md, or in the table of contents of the site; a script in the README or on the page of the library."""
    docs = ROOT / "docs"
    linked = (docs / "README.md").read_text(encoding="utf-8")
    contents = {
        (index.parent / line).relative_to(docs).as_posix()
        for index in (docs / "index.md", docs / "api" / "index.md")
        for block in blocks_of(index, r"\{toctree\}")
        for line in block.split()
    }
    pages = [page.relative_to(docs) for page in PAGES[1:] if page.name not in ("README.md", "index.md")]
    assert [str(page) for page in pages if f"{page.as_posix()})" not in linked and page.with_suffix("").as_posix() not in contents] == []
    words = (ROOT / "README.md").read_text(encoding="utf-8") + (docs / "library.md").read_text(encoding="utf-8")
    scripts = [*(ROOT / "examples").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    assert [script.name for script in scripts if script.name not in words and script.name != "machine.py"] == []


def test_readme_has_the_commands_that_ci_runs():
    shell = "\n".join(blocks_of(ROOT / "README.md", "(?:sh|bash|console|shell)"))
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install . && thermo run --grid default", 'pip install ".[test]" && pytest'):
        assert re.search(rf"^(\$ )?{re.escape(command)}$", shell, re.MULTILINE), command
    assert 'pip install ".[test]" && pytest' in script


@pytest.mark.parametrize("package", ["thermokernels", "adjoints", "thermokernels_bridges"])
def test_packages_say_that_they_are_typed(package):
    assert Path(find_spec(package).origin).with_name("py.typed").exists()


def test_numerics_need_no_command_line():
    code = "import sys, thermokernels, adjoints; print(*{'typer', 'rich', 'jax', 'threadpoolctl', 'thermokernels_app'} & {*sys.modules})"
    assert run(sys.executable, "-P", "-c", code).stdout.split() == []
