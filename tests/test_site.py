"""The site: built from the pages with warnings as errors, and every public name on a page of its reference."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import adjoints
import thermokernels

ROOT = Path(__file__).parents[1]


@pytest.mark.small
def test_every_public_name_has_its_place_in_the_reference():
    named = set()
    for page in (ROOT / "docs" / "api").glob("*.md"):
        named |= set(re.findall(r"^\.\. auto(?:function|class|module):: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    packages = (thermokernels, adjoints, thermokernels.plot)
    public = {f"{package.__name__}.{name}" for package in packages for name in package.__all__}
    assert public - named == set()
    assert named - public == set()


@pytest.mark.docs
@pytest.mark.skipif(find_spec("sphinx") is None, reason="Sphinx is not installed: pip install '.[docs]'")
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "site"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    start = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "What do you have?" in start
    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://', start)  # opens from disk, without a network
