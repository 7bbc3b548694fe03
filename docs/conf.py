"""The site: ``sphinx-build -W docs build/site`` over the same Markdown pages that are read on a forge."""

import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "thermokernels"
author = "the thermokernels authors"
project_copyright = author
release = installed_version("thermokernels")

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["README.md", "pictures/**"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

html_theme = "furo"
html_title = f"thermokernels {release}"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

# A link to a file of the repository outside of the pages: on the site, its path in the repository.
PLACES = "thermokernels|adjoints|examples|benchmarks|validation|tests|[A-Z]"
OUTSIDE = re.compile(rf"\[(?:`([^`\]]+)`|([^\]]+))\]\((?:\.\./)+((?:{PLACES})[\w./-]*)\)")


def _paths_for_links(_app, _name, source):
    source[0] = OUTSIDE.sub(lambda link: f"`{link[3]}`" if link[1] else f"{link[2]} (`{link[3]}`)", source[0])


def _formulas_are_no_markup(_app, _what, _name, _object, _options, lines):
    """Bars are absolute values, and v_-i is an index."""
    for number, line in enumerate(lines):
        if ">>>" not in line:
            line = re.sub(r"(?<!`)\|", r"\\|", line)
            lines[number] = re.sub(r"(?<=\w)_(?=[^\w`]|$)", r"\\_", line)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _formulas_are_no_markup, priority=900)
    app.connect("source-read", _paths_for_links)
