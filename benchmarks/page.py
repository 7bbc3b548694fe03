"""Put what a benchmark prints into its block of docs/performance.md, with the command that printed it.

    python benchmarks/page.py small_models.py --before PATH

A block stands between ``<!-- printed by: small_models.py -->`` and ``<!-- end -->``. Times belong to a machine: no check holds the page
against another run, and paths are left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"


def with_block(text: str, script: str, lines: str) -> str:
    """The page with these lines in the block of a script; ValueError where it has none."""
    marker = f"<!-- printed by: {script} -->"
    block = re.compile(re.escape(marker) + r"\n.*?<!-- end -->", re.DOTALL)
    found, count = block.subn(lambda _: f"{marker}\n```text\n{lines.rstrip()}\n```\n<!-- end -->", text)
    if count != 1:
        raise ValueError(f"the page must have one block {marker}; it has {count}")
    return found


def main() -> None:
    script, *options = sys.argv[1:]
    page = with_block(PAGE.read_text(encoding="utf-8"), script, "")  # before minutes are spent
    printed = subprocess.run([sys.executable, HERE / script, *options], check=True, stdout=subprocess.PIPE, text=True).stdout
    words = ["PATH" if Path(option).exists() and "/" in option else option for option in options]
    lines = "\n".join(("$ python benchmarks/" + " ".join([script, *words]), *printed.splitlines()))
    PAGE.write_text(with_block(page, script, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
