"""The command that follows Q along a training: track."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thermokernels_app.commands.console import AsJson, errors, seconds
from thermokernels_app.commands.executors import ExecutorKind, Kind, Scheduler, WorkersForThreads, pool_of
from thermokernels_app.commands.models import Convention, Window, read_history

if TYPE_CHECKING:
    from thermokernels import Track

EXIT_CODES = (
    "Exit codes: 0 every checkpoint can be trusted; 1 unexpected error; 2 bad usage or input; 11 some checkpoint cannot be trusted; "
    "130 interrupted"
)


def track(
    history: Annotated[
        Path,
        typer.Argument(
            metavar="HISTORY",
            help="Models of a training: .npz or .npy with W (T, n_v, n_h), .h5 of rbms, .pt, .skops, or a folder of models.",
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="Samples of the visible spins, one a row, +1 and -1, in .npy or .csv.")],
    window: Window = 100.0,
    kernel: Annotated[
        str, typer.Option("--kernel", help="The sampler: alternating (of most trainers), two-block or single-site.")
    ] = "alternating",
    precision: Annotated[
        float | None, typer.Option("--precision", help="Wanted half width of the intervals, relative to Q, such as 0.05.")
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Time for the estimate of each checkpoint, such as 30s.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the estimates.")] = 0,
    workers: WorkersForThreads = None,
    executor: ExecutorKind = Kind.processes,
    scheduler: Scheduler = None,
    table: Annotated[Path | None, typer.Option("--csv", help="Write the table as CSV to this file, too.")] = None,
    convention: Convention = None,
    as_json: AsJson = False,
) -> None:
    """Q, T_O, the needed window, KL and pseudo-likelihood at every checkpoint of a training, and from when on a window is too short.

    Exact where the states can be enumerated, estimated from coupled chains with intervals elsewhere.
    """
    with errors(as_json):
        import thermokernels as tk
        from thermokernels.common.atomic_file import require_folder
        from thermokernels_app.report.screens import track_tables
        from thermokernels_app.tools import data_files

        if table is not None:
            require_folder(table)
        models = read_history(history, convention)
        samples = data_files.read_samples(data, next(iter(models.values())).n_visible)
        time = None if budget is None else seconds(budget, "--budget")
        with pool_of(executor, scheduler, workers) as pool:
            found = tk.track(
                models, samples, window, kernel, precision=precision, budget=time, seed=seed, executor=pool, progress=_said
            )  # fmt: skip
        if table is not None:
            _write(table, found)
        if as_json:
            print(json.dumps({"history": str(history), "data": str(data), **found.as_dict()}, allow_nan=False))
        else:
            track_tables.print_track(found)
    raise typer.Exit(0 if all(row.trusted for row in found.rows) else 11)


def _said(done: int, total: int) -> None:
    print(f"checkpoint {done} of {total}", file=sys.stderr)


def _write(path: Path, found: Track) -> None:
    """The rows as CSV: numbers with all their digits, ends of intervals in columns of their own."""
    import io

    from thermokernels.common.atomic_file import replacing

    text = io.StringIO()
    rows = found.as_dict()["rows"]
    names = [name for name in rows[0] if not name.endswith("interval")]
    ends = [name for name in rows[0] if name.endswith("interval")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *(f"{name}_{end}" for name in ends for end in ("low", "high"))])
    for row in rows:
        writer.writerow([*(row[name] for name in names), *(value for name in ends for value in row[name])])
    with replacing(path) as file:
        file.write(text.getvalue().encode())
