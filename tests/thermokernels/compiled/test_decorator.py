"""The cache of compiled kernels: never stale, and never in the way where it cannot be written."""

import ast
import os
import shutil
import subprocess
import sys

import pytest

from thermokernels.compiled import decorator

IMPORT = "from thermokernels.compiled.decorator import jit\n"
CALLER = IMPORT + "from thermokernels.rooms.callee import _half\n\n@jit\ndef _quarter(x):\n    return _half(_half(x))\n"
CALLEE = IMPORT + "\n@jit\ndef _half(x):\n    return FACTOR * x\n"
CALL = "from thermokernels.caller import _quarter\nprint(_quarter(1.0), sum(_quarter.stats.cache_hits.values()))"


@pytest.fixture
def package(tmp_path):
    """A copied package with one kernel that calls another in another file; the kernels of the real one are left out: less to hash."""
    folder = tmp_path / "site" / "thermokernels"
    for room in ("compiled", "rooms"):
        (folder / room).mkdir(parents=True)
        (folder / room / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    shutil.copy(decorator.__file__, folder / "compiled")
    (folder / "caller.py").write_text(CALLER)
    (folder / "rooms" / "callee.py").write_text(CALLEE.replace("FACTOR", "0.5"))  # a sub-folder: its sources count too
    return folder


def python(code, *, path, **variables):
    """Run code in a new process that finds ``path`` first."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA", "XDG"))}
    environment |= {"PYTHONPATH": str(path), **variables}
    environment = {key: value for key, value in environment.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=path, capture_output=True, text=True, timeout=120)


def test_an_edited_callee_in_another_file_is_compiled_again(package, tmp_path):
    cache = str(tmp_path / "cache")

    def answer():
        result = python(CALL, path=package.parent, NUMBA_CACHE_DIR=cache)
        assert result.returncode == 0, result.stderr
        return tuple(map(float, result.stdout.split()))

    assert answer() == (0.25, 0)
    assert answer() == (0.25, 1)  # from the cache
    (package / "rooms" / "callee.py").write_text(CALLEE.replace("FACTOR", "5.0"))
    assert answer() == (25.0, 0)
    (package / "rooms" / "callee.py").write_text(CALLEE.replace("FACTOR", "0.5"))
    assert answer() == (0.25, 1)  # and the old sources find their old code
    (package / "rooms" / "pages.py").write_text("# no kernel: neither this file nor a change of it compiles anything anew\n")
    assert answer() == (0.25, 1)


@pytest.mark.parametrize("how", ["file in the way", "no such device"])
def test_an_unwritable_cache_compiles_with_one_warning(package, tmp_path, how):
    (tmp_path / "file").write_text("")
    cache = str(tmp_path / "file") if how == "file in the way" else "/proc/nowhere"
    result = python(CALL, path=package.parent, NUMBA_CACHE_DIR=cache)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0.25", "0"]
    assert result.stderr.count("compiled kernels cannot be cached") == 1
    assert "Set NUMBA_CACHE_DIR to a writable folder" in result.stderr


def test_it_works_without_a_home(package, tmp_path):
    result = python(CALL, path=package.parent, HOME="/proc/nowhere", XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert (result.returncode, result.stdout.split()[0]) == (0, "0.25"), result.stderr
    assert list((tmp_path / "xdg" / "thermokernels").iterdir())
    result = python(CALL, path=package.parent, HOME="/proc/nowhere")
    assert (result.returncode, result.stdout.split()[0]) == (0, "0.25"), result.stderr
    assert result.stderr.count("compiled kernels cannot be cached") == 1


def test_other_packages_keep_their_cache_folder(package, tmp_path):
    code = "import numba; before = numba.config.CACHE_DIR; import thermokernels.caller; print(numba.config.CACHE_DIR == before)"
    assert python(code, path=package.parent, XDG_CACHE_HOME=str(tmp_path)).stdout.strip() == "True"


@pytest.mark.small
def test_the_hash_covers_every_file_with_kernels_and_no_other():
    root = decorator.source_root()
    names = {path.relative_to(root).as_posix() for path in decorator.kernel_sources()}
    assert {"thermokernels/model/kernels/single_site.py", "thermokernels/compiled/decorator.py", "adjoints/overlaps.py"} <= names
    assert not {"thermokernels/common/arguments.py", "thermokernels/diagnosis/words.py", "thermokernels_app/main.py"} & names
    assert len(decorator.kernel_hash()) == 64


@pytest.mark.small
def test_what_is_frozen_into_kernels_stands_in_files_with_kernels():
    """A number of another module is compiled in as a constant: a change of its file has to be another key."""
    root, sources = decorator.source_root(), set(decorator.kernel_sources())
    outside = []
    for source in sources:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        imported = {}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and any(ast.unparse(mark) == "jit" for mark in function.decorator_list):
                body = [node for statement in function.body for node in ast.walk(statement)]
                used = {node.id for node in body if isinstance(node, ast.Name)} & imported.keys()
                for module, name in (imported[name] for name in used):
                    file = root / (module.replace(".", "/") + ".py")
                    if file.exists() and file not in sources:
                        outside.append(f"{source.name}: {function.name} uses {name} of {module}")
    assert outside == []
