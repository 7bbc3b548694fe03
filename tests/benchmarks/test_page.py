"""What a benchmark prints goes into its own block of the page, and nowhere else."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "page.py"
spec = importlib.util.spec_from_file_location("benchmarks_page", PATH)
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)


def test_a_block_is_replaced_and_the_rest_stays():
    text = "before\n<!-- printed by: a.py -->\nold\n<!-- end -->\nbetween\n<!-- printed by: b.py -->\n<!-- end -->\nafter\n"
    found = page.with_block(text, "b.py", "one \\1\ntwo\n")
    assert found == text.replace("b.py -->\n", "b.py -->\n```text\none \\1\ntwo\n```\n")
    assert page.with_block(found, "b.py", "one \\1\ntwo\n") == found


def test_a_page_without_the_block_is_refused():
    with pytest.raises(ValueError, match=r"must have one block <!-- printed by: c.py -->; it has 0"):
        page.with_block("text", "c.py", "")


def test_every_block_of_the_page_is_of_a_script_that_there_is():
    scripts = page.re.findall(r"<!-- printed by: (\S+) -->", page.PAGE.read_text(encoding="utf-8"))
    assert scripts
    assert all((page.HERE / script).exists() for script in scripts)
