"""A stale compiled kernel: sources are edited in a copy, and what the copy computes and where it caches is looked at.

numba alone serves the old code of a caller whose callee in another file has changed. The copy of our decorator names its cache after
a hash of all sources; with that name held still, the old number comes back, and the known answer has to notice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from thermokernels.compiled import decorator
from thermokernels_app.selftest.case import Case, Spoken

KEY, NUMBER = "kernel cache: the key of changed sources is another", "known answer: a changed callee gives its new number"

IMPORT = "from thermokernels.compiled.decorator import jit\n"
CALLER = f"{IMPORT}from thermokernels.callee import _half\n\n\n@jit\ndef _quarter(x):\n    return _half(_half(x))\n"
CALLEE = IMPORT + "\n\n@jit\ndef _half(x):\n    return {factor} * x\n"
# By its file, so that the kernels beside it are hashed and not imported.
KEY_OF_COPY = """
import importlib.util
spec = importlib.util.spec_from_file_location("copy", "thermokernels/compiled/decorator.py")
copy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(copy)
print(copy.kernel_hash())
"""
NUMBERS = "from thermokernels.caller import _quarter\nprint(_quarter(1.0))"


def cases() -> list[Case]:
    """The key of the cache, and the number that comes out of it."""
    return [
        Case(KEY, "one number of one kernel source changed in a copy", partial(_keys, same=True), partial(_keys, same=False)),
        Case(NUMBER, "a callee changed, the key of the cache held still", partial(_number, keyed=True), partial(_number, keyed=False)),
    ]


def _keys(same: bool) -> Spoken:
    """The key of a copy of all kernel sources with other line endings, or with one number changed; it speaks where the key is another."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder, "site")
        for source in decorator.kernel_sources():
            copy = site / source.relative_to(decorator.source_root())
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = source.read_bytes()
            if source.name == "flip_tables.py" and not same:
                content = content.replace(b"2.0", b"2.5", 1)
            copy.write_bytes(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n" if same else b"\n"))
        key = _python(KEY_OF_COPY, site)
    return {} if key == decorator.kernel_hash() else {KEY: f"{key[:12]} instead of {decorator.kernel_hash()[:12]}"}


def _number(keyed: bool) -> Spoken:
    """A quarter by two calls of a half in another file, which is then changed to five: 25, unless the old code is served."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "site", "thermokernels")
        (package / "compiled").mkdir(parents=True)
        for initial in (package / "__init__.py", package / "compiled" / "__init__.py"):
            initial.touch()
        shutil.copy(decorator.__file__, package / "compiled")
        (package / "caller.py").write_text(CALLER)
        held = "" if keyed else "from thermokernels.compiled import decorator\ndecorator.kernel_hash = lambda: 'the same for ever'\n"
        found = []
        for factor in ("0.5", "5.0"):
            (package / "callee.py").write_text(CALLEE.format(factor=factor))
            found.append(float(_python(held + NUMBERS, package.parent, NUMBA_CACHE_DIR=folder)))
    return {} if found == [0.25, 25.0] else {NUMBER: f"{found[1]:g} instead of 25 after the change"}


def _python(code: str, site: Path, **variables: str) -> str:
    """What a new process prints that finds ``site`` first."""
    environment = os.environ | {"PYTHONPATH": str(site), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=site, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the copy could not be run: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.strip()
