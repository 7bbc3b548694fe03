"""The commands that draw: plot and report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermokernels_app.commands.console import TOLD_STATES, errors, kept_on_interrupt, parts_done
from thermokernels_app.commands.models import Convention, read_model

if TYPE_CHECKING:
    from thermokernels_app.report.pictures import Picture

EXIT_CODES = (
    "Exit codes: 0 drawn; 1 unexpected error; 2 bad usage or input, or the extra `report` is missing; "
    "130 interrupted (with --checkpoint what is done is kept)"
)

Cells = Annotated[
    list[str] | None,
    typer.Option("--cell", help="A cell of the run whose model is drawn, such as m6/s2/half/code1; can be repeated."),
]
Colour = Annotated[
    str,
    typer.Option("--colour", help="What colours the basins: `mass`, or an observable: `magnetisation`, `v0`, `h1`, `v0h2` (from 0)."),
]


def plot(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder of a run, or a model file, as of thermo diagnose.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[PICTURE]...", help="Which pictures; all where none is named.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the files.")] = Path("pictures"),
    kind: Annotated[str, typer.Option("--format", "-f", help="`svg` or `png`.")] = "svg",
    cells: Cells = None,
    colour: Colour = "mass",
    convention: Convention = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="File that keeps what a model's pictures are drawn from; the same command goes on.")
    ] = None,
) -> None:
    """Draw a run or a model: one file a picture.

    Of a run: qualifying-events, q, training, ranks, gradient-errors, and disconnectivity, spectrum and barriers of two telling cells or
    of each --cell. Of a run of the steering: steering. Of runs of --seeds: ensemble. Of a model: these three.
    """
    with errors(False), kept_on_interrupt(checkpoint):
        _require_extra()
        from thermokernels.common.atomic_file import replacing
        from thermokernels_app.report import style

        chosen = _pictures(source, cells, colour, convention, checkpoint)
        if kind not in style.FORMATS:
            raise ValueError(f"--format must be svg or png; got {kind!r}")
        if names:
            known = {picture.name: picture for picture in chosen}
            families = {name: [p for p in chosen if p.name == name or p.name.startswith(f"{name}-m")] for name in names}
            if unknown := [name for name in names if not families[name]]:
                raise ValueError(f"{source} has no picture {unknown[0]!r}; it has {', '.join(known)}")
            chosen = [picture for name in names for picture in families[name]]
        out.mkdir(parents=True, exist_ok=True)
        for picture in chosen:
            file = out / f"{picture.name}.{kind}"
            content = style.as_file(picture.draw(True), kind)
            with replacing(file) as opened:
                opened.write(content)
            print(file)


def report(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write; by default report.html in the run's folder.")] = None,
    cells: Cells = None,
    colour: Colour = "mass",
) -> None:
    """Write a run as one HTML page: verdicts, pictures and where they come from, with nothing to load from elsewhere."""
    with errors(False):
        _require_extra()
        from thermokernels.common.atomic_file import replacing, require_folder
        from thermokernels_app.experiment import audit
        from thermokernels_app.experiment.records import store
        from thermokernels_app.report import page, pictures

        file = out if out is not None else (run if run.is_dir() else run.parent) / "report.html"
        require_folder(file)
        document, arrays = store.read_results(run), store.read_arrays(run)
        found = audit.audit(document, run)
        if found.altered:
            raise store.MismatchError(found.altered)
        chosen = pictures.of_run(document, arrays, None if cells is None else [pictures.parse_cell(cell) for cell in cells], colour)
        content = page.render(document, found.verdicts, chosen, found.freeze.sentences() if found.freeze else ())
        with replacing(file) as opened:
            opened.write(content.encode())
    print(file)


def _require_extra() -> None:
    """Say what to install where matplotlib or Jinja2 is missing."""
    for module in ("matplotlib", "jinja2"):
        if find_spec(module) is None:
            raise ValueError(f"pictures need {module}, which is not installed: pip install '.[report]'")


def _pictures(source: Path, cells: list[str] | None, colour: str, convention: str | None, checkpoint: Path | None) -> Sequence[Picture]:
    import thermokernels as tk
    from thermokernels.diagnosis.measured import kept_measure
    from thermokernels_app.experiment.records import store
    from thermokernels_app.experiment.running import steering
    from thermokernels_app.report import ensemble, pictures

    if checkpoint is not None and (source.is_dir() or source.suffix == ".json"):
        raise ValueError(f"--checkpoint is for the pictures of a model; {source} is a run, whose numbers are there")
    if steering.QUESTION.holds(source):
        return [pictures.of_steering(steering.QUESTION.read(source))]
    if many := ensemble.folders_of(source):
        done = {seed: store.read_results(folder) for seed, folder in many.items() if (folder / store.RESULTS).exists()}
        if not done:
            raise ValueError(f"{source} holds {len(many)} runs, and none of them is done yet")
        return [pictures.of_ensemble(ensemble.summary_of(done))]
    if source.is_dir() or source.suffix == ".json":
        keys = None if cells is None else [pictures.parse_cell(cell) for cell in cells]
        return pictures.of_run(store.read_results(source), store.read_arrays(source), keys, colour)
    if cells is not None:
        raise ValueError(f"--cell names a cell of a run; {source} is a model file")
    chain = tk.gibbs_chain(read_model(source, convention))

    def measure() -> tk.SpectralMeasure:
        with parts_done(chain.n_states >= TOLD_STATES) as progress:
            return kept_measure(chain, progress or (lambda part, done, total: None), checkpoint)

    return pictures.of_model(chain, colour, of=source.name, measure=measure)
