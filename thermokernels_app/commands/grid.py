"""The commands of the preregistered grid: run, show, verify-gradients."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from thermokernels_app.commands.console import AsJson, Grid, Seed, Workers, errors, progress_bar, report, seconds, seed_list
from thermokernels_app.commands.executors import ExecutorKind, Kind, Scheduler, executor_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from thermokernels_app.experiment.design import Design
    from thermokernels_app.experiment.freeze import Freeze
    from thermokernels_app.experiment.records.store import Record
    from thermokernels_app.experiment.running.progress import Progress
    from thermokernels_app.experiment.running.question import Question, SomeDesign


# Grids with a design, records and a verdict of their own: nothing of a run is imported before it is asked for.
QUESTIONS = ("factorization", "factorization-smoke", "steering", "steering-smoke")


class Options(TypedDict):
    """What a run and an ensemble have in common."""

    workers: int | None
    executor: Executor | None
    resume: bool
    task_limit: float | None
    progress: Callable[[Progress], None]


def run(
    grid: Grid = "default",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of results.json and arrays.npz; without it, a new numbered folder below `runs`."),
    ] = None,
    workers: Workers = None,
    seed: Seed = None,
    freeze: Annotated[
        Path | None, typer.Option("--freeze", help="Refuse to start (exit 3) unless design, sources and versions are the frozen ones.")
    ] = None,
    cap: Annotated[
        str | None, typer.Option("--cap", help="Cap on the wall clock, such as 3h, 90m or 1h30m (registered: 3h); --resume may change it.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Reuse the finished cells of an earlier, unfinished run of this design.")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="An ensemble instead of one run: the seeds FIRST:END (END not included) or a list 0,3,7.")
    ] = None,
    task_limit: Annotated[
        str | None, typer.Option("--task-limit", help="A task that takes longer counts as hanging, such as 10m (default: 10m up to m = 6).")
    ] = None,
    executor: ExecutorKind = Kind.processes,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Run a design from training to the verdicts on P1 to P4, or to P5 (factorization) or P6 (steering).

    Results are kept in --out, or in runs/GRID-HASH-NUMBER, HASH being the first digits of the design's hash and NUMBER the next free
    one; --resume goes on with the last unfinished one. A folder that holds a run is never overwritten. With --seeds, every seed has a
    folder of its own in it, and the answer is a table of verdicts. (The grid `steering` asks about many seeds at once: one folder.)
    """
    if grid in QUESTIONS:
        given = {"--freeze": freeze, "--cap": cap, "--task-limit": task_limit}
        _question(grid, out, workers, seed, seeds, resume, executor, scheduler, as_json, given)
    with errors(as_json), _workers_ahead(workers if executor is Kind.processes else 0):
        from thermokernels_app.experiment import freeze as freezes
        from thermokernels_app.experiment.design import load_design
        from thermokernels_app.experiment.running import runner
        from thermokernels_app.report.screens import grid_tables

        design = load_design(grid, seed=seed, cap=None if cap is None else seconds(cap), beside=QUESTIONS)
        frozen = None if freeze is None else freezes.read(freeze)
        if frozen is not None and not resume:  # what is resumed may have another cap: the run itself looks
            frozen.require(design)
        many = None if seeds is None else seed_list(seeds)
        if many is not None and (seed is not None or freeze is not None):
            raise ValueError("--seeds goes neither with --seed nor with --freeze, which fixes one seed")
        limit = None if task_limit is None else seconds(task_limit, "--task-limit")
        with executor_of(executor, scheduler, workers) as pool, progress_bar() as show_progress:
            folder = out if out is not None else _default_folder(Path(grid).stem + ("" if many is None else "-ensemble"), design, resume)
            options: Options = {"workers": workers, "executor": pool, "resume": resume, "task_limit": limit, "progress": show_progress}
            if many is None:
                runs = {design.seed: runner.run(design, folder, freeze=frozen, **options)}
            else:
                runs = runner.ensemble(design, many, folder, **options)
        code = max(result.exit_code for result in runs.values())
        if many is not None:
            summary = grid_tables.ensemble_summary(runs)
            if as_json:
                print(json.dumps({"folder": str(folder), "exit_code": code, **summary}, allow_nan=False))
            else:
                grid_tables.print_ensemble(summary)
                print(f"results: {folder}")
        else:
            (result,) = runs.values()
            if as_json:
                print(json.dumps({"folder": str(folder), "exit_code": code, **result.document}, allow_nan=False))
            else:
                print_freeze(frozen)
                grid_tables.print_document(result.document, result.document["verdicts"])
                print(f"results: {folder}")
    raise typer.Exit(code)


def _workers_ahead(workers: int | None) -> AbstractContextManager[None]:
    """As many workers as the cores take, which import what a cell needs before anything else is done here."""
    from thermokernels_app.experiment.records.environment import available_cores
    from thermokernels_app.experiment.running.pool import workers_ahead

    cores = available_cores()
    return workers_ahead(cores if workers is None else min(workers, cores), "thermokernels_app.experiment.cell")


def _question(
    grid: str,
    out: Path | None,
    workers: int | None,
    seed: int | None,
    seeds: str | None,
    resume: bool,
    executor: ExecutorKind,
    scheduler: Scheduler,
    as_json: bool,
    given: Mapping[str, object],
) -> None:
    """The run of P5 or P6."""
    with errors(as_json):
        if unwanted := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"{unwanted[0]} does not go with --grid {grid}, whose design fixes everything but the seeds")
        question, screen = _questions()[grid.partition("-")[0]]
        design = _design_of(grid, seed, None if seeds is None else seed_list(seeds))
        folder = out or Path("runs", f"{grid}-{design.digest()[:12]}")
        with executor_of(executor, scheduler, workers) as pool, progress_bar() as show_progress:
            document = question.run(design, folder, workers=workers, executor=pool, resume=resume, progress=show_progress)
        code = _print_answer(document, folder, question, screen, as_json)
        if not as_json:
            print(f"results: {folder}")
    raise typer.Exit(code)


def _design_of(grid: str, seed: int | None, seeds: list[int] | None) -> SomeDesign:
    """The design of such a grid: P5 looks at one seed table, P6 at many."""
    from thermokernels_app.experiment.factorization_design import load_factorization
    from thermokernels_app.experiment.steering_design import load_steering

    if grid.startswith("factorization"):
        if seeds is not None:
            raise ValueError(f"--seeds does not go with --grid {grid}, which asks about one seed table: use --seed")
        return load_factorization(grid, seed)
    if seed is not None and seeds is not None:
        raise ValueError("--seeds does not go with --seed, which is a list of one")
    return load_steering(grid, seeds if seed is None else [seed])


def _questions() -> dict[str, tuple[Question, Callable[[dict[str, Any]], None]]]:
    """Every question by its name, with the screen of its document."""
    from thermokernels_app.experiment.running import factorization, steering
    from thermokernels_app.report.screens import factorization_tables, steering_tables

    return {
        "factorization": (factorization.QUESTION, factorization_tables.print_document),
        "steering": (steering.QUESTION, steering_tables.print_document),
    }


def _print_answer(document: Record, folder: Path, question: Question, screen: Callable[[dict[str, Any]], None], as_json: bool) -> int:
    code = question.exit_code(document)
    if as_json:
        print(json.dumps({"folder": str(folder), "exit_code": code, **document}, allow_nan=False))
    else:
        screen(document)
    return code


def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run, or its results.json.")],
    as_json: AsJson = False,
) -> None:
    """Judge the records of a run again, from its results.json alone, and show the verdict tables.

    Of the folder of an ensemble (--seeds): every run in it, and how their figures are distributed. Exit code 3 where a file, or the
    arrays.npz beside it, is not what the run wrote: a hash, the chain of its freeze, or the verdicts.
    """
    with errors(as_json):
        from thermokernels_app.experiment import audit
        from thermokernels_app.experiment.records import store
        from thermokernels_app.report import ensemble
        from thermokernels_app.report.screens import grid_tables

        for question, screen in _questions().values():
            if question.holds(folder):
                raise typer.Exit(_print_answer(question.read(folder), folder, question, screen, as_json))
        if many := ensemble.folders_of(folder):
            raise typer.Exit(_show_ensemble(folder, many, as_json))
        document = store.read_results(folder)
        found = audit.audit(document, folder)
        for note in found.notes:
            print(f"note: {note}", file=sys.stderr)
        if as_json:
            shown = {"folder": str(folder), "exit_code": found.exit_code, "altered": found.altered}
            print(json.dumps(shown | document | {"verdicts": found.verdicts}, allow_nan=False))
        else:
            print_freeze(found.freeze)
            grid_tables.print_document(document, found.verdicts)
        if found.altered:
            report(found.exit_code, found.altered, False)
    raise typer.Exit(found.exit_code)


def _show_ensemble(folder: Path, folders: Mapping[int, Path], as_json: bool) -> int:
    """The table of verdicts of an ensemble, judged again, and the distribution of its figures; the exit code of the worst run.

    Runs that are not done yet are left out and named, and make it a HALT.
    """
    from thermokernels_app.experiment import audit
    from thermokernels_app.experiment.records import store
    from thermokernels_app.experiment.running.outcome import Run
    from thermokernels_app.report.screens import grid_tables

    done = {seed: path for seed, path in folders.items() if (path / store.RESULTS).exists()}
    if not done:
        raise ValueError(f"{folder} holds {len(folders)} runs, and none of them is done yet")
    runs, code = {}, 0
    if waiting := [str(seed) for seed in folders if seed not in done]:
        print(f"note: not done yet and left out: seed {', '.join(waiting)}", file=sys.stderr)
        code = 11
    for seed, path in done.items():
        document = store.read_results(path)
        found = audit.audit(document, path)
        if found.altered:
            raise store.MismatchError(found.altered)
        runs[seed], code = Run(document | {"verdicts": found.verdicts}, {}, path), max(code, found.exit_code)
    summary = grid_tables.ensemble_summary(runs)
    if as_json:
        print(json.dumps({"folder": str(folder), "exit_code": code, **summary}, allow_nan=False))
    else:
        grid_tables.print_ensemble(summary)
    return code


def verify_gradients(
    every: Annotated[bool, typer.Option("--all", help="All checkpoints of the grid, not only the anchor of P1.")] = False,
    grid: Grid = "default",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Hold the hand-written gradients against central differences, the complex step and, where installed, JAX.

    Along every fixed direction in phi: the best step h of the differences, the relative error of each leg and its gate.
    """
    with errors(as_json):
        from thermokernels_app.experiment import gradient_checks
        from thermokernels_app.experiment.design import load_design
        from thermokernels_app.report.screens import grid_tables

        with progress_bar() as show_progress:
            checked = gradient_checks.verify(load_design(grid), every=every, workers=workers, progress=show_progress)
        if as_json:
            print(json.dumps(checked, allow_nan=False))
        else:
            grid_tables.print_gradients(checked)
    raise typer.Exit(0 if checked["verdict"] == "PASS" else 10)


def print_freeze(frozen: Freeze | None) -> None:
    """What was fixed before a run, and what was amended since."""
    for line in frozen.sentences() if frozen else ():
        print(line)


def _default_folder(name: str, design: Design, resume: bool) -> Path:
    """runs/NAME-HASH-NUMBER: with ``resume`` the last unfinished run, else the last run; otherwise a new folder with the next number."""
    if resume and (last := _last_unfinished(name, design)):
        return last
    name = f"{name}-{design.digest()[:12]}"
    numbers = sorted(int(path.name.rpartition("-")[2]) for path in Path("runs").glob(f"{name}-*") if path.name.rpartition("-")[2].isdigit())
    if resume and numbers:
        return Path("runs", f"{name}-{numbers[-1]}")
    number = max(numbers, default=0) + 1
    while True:
        folder = Path("runs", f"{name}-{number}")
        try:
            folder.mkdir(parents=True)  # now it is ours: of several runs that start at once, each takes a number of its own
        except FileExistsError:
            number += 1
        else:
            return folder


def _last_unfinished(name: str, design: Design) -> Path | None:
    """The folder of the unfinished run of this design that was begun last, whatever its cap on the wall clock."""
    from thermokernels_app.experiment.records.journal import JOURNAL
    from thermokernels_app.experiment.running.runner import begun_as

    found = []
    for journal in Path("runs").glob(f"{name}-*/**/{JOURNAL}"):
        run = Path(*journal.parts[:2])
        digest, number = run.name.split("-")[-2:]
        if begun_as(design, journal.parent).digest()[:12] == digest and number.isdigit():
            found.append((begun_as(design, journal.parent) == design, int(number), run))
    return max(found)[-1] if found else None
