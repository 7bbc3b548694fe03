"""The page of a run: verdicts, pictures and where they come from, in one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from thermokernels_app.report.pictures import Picture
from thermokernels_app.report.screens import grid_tables
from thermokernels_app.report.style import inline


def render(document: Mapping[str, Any], verdicts: Mapping[str, Any], pictures: Sequence[Picture], freeze: Sequence[str] = ()) -> str:
    """The page as HTML.

    Parameters
    ----------
    document : of results.json
    verdicts : as judged again from the records
    pictures : drawn here, in this order
    freeze : what was fixed before the run and amended since, a line each
    """
    from jinja2 import Environment, StrictUndefined

    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    html: str = template.render(
        document=document,
        verdicts=verdicts,
        freeze=freeze,
        n_cells=len(document["cells"]),
        text=grid_tables._text,
        figures=[(picture, inline(picture.draw(False), picture.name)) for picture in pictures],
    )
    return html
