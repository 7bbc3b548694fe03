"""Run a design, or many of them at once: train the networks, compute every cell, judge, and keep what is done whatever happens.

Nothing numerical is imported here, so that the first worker starts at once. The records are assembled in the order of the grid: they
are the same bits whatever computes them, in whichever order, and however often it was interrupted.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.freeze import Freeze
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.records.environment import available_cores, source_hash
from thermokernels_app.experiment.records.journal import Journal, held_cap
from thermokernels_app.experiment.running import tasks
from thermokernels_app.experiment.running.campaign import Campaign
from thermokernels_app.experiment.running.outcome import STATUSES, Run, arrays_of, circumstances_of, complete_run, document_of, exit_code
from thermokernels_app.experiment.running.pool import WorkerPool
from thermokernels_app.experiment.running.progress import Progress, Report, mean_of

__all__ = ["STATUSES", "Progress", "Run", "default_task_limit", "ensemble", "exit_code", "run"]


def run(
    design: Design,
    out: Path | str | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    freeze: Freeze | None = None,
    task_limit: float | None = None,
    progress: Report | None = None,
) -> Run:
    """Run a design from training to verdicts.

    A worker that dies, hangs or returns nonsense costs its task one retry; a task that is lost twice is reported as such (a cell has the
    status ``halted`` with the check ``worker``) while the others finish, and the run can be resumed.

    Parameters
    ----------
    design : Design
    out : path-like, optional
        The folder for results.json and arrays.npz, made where it does not exist; None keeps everything in memory.
    workers : int, optional
        Processes of the pool, by default one for every core. They are spawned: a script that calls this needs the usual
        ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Runs the tasks instead of a pool of our own; it is not shut down.
    resume : bool
        Take the finished cells of an earlier run of the same design in ``out``; a complete run is returned as it is. The cap on the wall
        clock may be another one: the run keeps its design and hash, and ``document["run"]["cap_seconds"]`` says how long it was given.
    freeze : Freeze, optional
        What was fixed before the run; nothing is run unless design and program agree with it, and the results carry its chain.
    task_limit : float, optional
        Seconds after which a task counts as hanging, by default :func:`default_task_limit`. In a pool of our own its worker is killed;
        an executor from outside is given up when no task at all ended for so long.
    progress : callable, optional
        Called with a :class:`Progress` after every finished task.

    Returns
    -------
    Run
        Also when the run was halted by a failed check, stopped by the cap or interrupted: ``document["status"]`` says which.

    Raises
    ------
    ValueError
        ``workers`` or ``task_limit`` is not positive, another run is writing to ``out``, it holds something else (nothing is
        overwritten), or a worker has another version of the program. MismatchError where this is not what was frozen.
    OSError
        ``out`` cannot be written, because the disk is full for example; what is done is kept and can be resumed.
    RuntimeError
        A task failed for a reason that is no numerical one, or the executor broke.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from thermokernels_app.experiment.design import load_design
    >>> with ThreadPoolExecutor(2) as threads:  # doctest: +SKIP
    ...     run(load_design("smoke"), executor=threads).verdicts
    """
    if freeze is not None:
        freeze.require(begun_as(design, out) if resume else design)
    (result,) = _run_all([(design, None if out is None else Path(out))], workers, executor, resume, task_limit, progress, freeze)
    return result


def ensemble(
    design: Design,
    seeds: Iterable[int],
    out: Path | str | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    task_limit: float | None = None,
    progress: Report | None = None,
) -> dict[int, Run]:
    """Run one design with several seeds, all in one pool at once.

    Every run is what :func:`run` gives for that seed, bit for bit. The cap on the wall clock counts from the start of the ensemble.

    Parameters
    ----------
    design : Design
    seeds : iterable of int
        Each replaces the design's seed.
    out : path-like, optional
        Folder of the folders ``seed0``, ``seed1`` and so on.
    workers, executor, resume, task_limit, progress
        As for :func:`run`; a seed whose run is complete is not run again with ``resume``.

    Returns
    -------
    dict of int to Run
        In the order of ``seeds``.

    Raises
    ------
    ValueError, OSError, RuntimeError
        As :func:`run`; ValueError also where no seed is given, or one twice.
    """
    seeds = list(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be one or more different integers; got {seeds}")
    designs = [(replace(design, seed=seed), None if out is None else Path(out) / f"seed{seed}") for seed in seeds]
    return dict(zip(seeds, _run_all(designs, workers, executor, resume, task_limit, progress), strict=True))


def default_task_limit(design: Design) -> float:
    """Seconds: 10 minutes, hundreds of times what a task of 12 spins takes, and four times as long for every further pair of spins."""
    return 600.0 * 4.0 ** max(0, max(design.grid.m) - 6)


def _run_all(
    designs: Sequence[tuple[Design, Path | None]],
    workers: int | None,
    executor: Executor | None,
    resume: bool,
    task_limit: float | None,
    progress: Report | None,
    freeze: Freeze | None = None,
) -> list[Run]:
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers must be a positive integer; got {workers!r}")
    if task_limit is not None and not (math.isfinite(task_limit) and task_limit > 0):
        raise ValueError(f"task_limit must be a positive number of seconds; got {task_limit!r}")
    limit = task_limit or max(default_task_limit(design) for design, _ in designs)
    count = workers or available_cores()
    frozen = freeze.sha256 if freeze else None
    runs: list[Run | Campaign] = []
    try:
        for design, folder in designs:
            begun = begun_as(design, folder) if resume else design
            runs.append((resume and complete_run(folder, begun, frozen)) or _campaign(begun, folder, resume, freeze, design.cap_seconds))
        campaigns = [one for one in runs if isinstance(one, Campaign)]
        if progress:
            reports = [progress] if len(campaigns) == 1 else mean_of(progress, len(campaigns))
            for campaign, report in zip(campaigns, reports, strict=True):
                campaign.progress = report
        outcomes: dict[Campaign, Run] = {}

        def ended(campaign: Campaign) -> None:
            with _uninterrupted():
                outcomes[campaign] = _outcome(campaign, None if executor else count)

        if campaigns:
            try:
                with WorkerPool(count, limit) if executor is None else _here(executor) as pool:
                    _work(campaigns, pool, 3600.0 if executor is None else limit, ended)
            except KeyboardInterrupt:
                for campaign in campaigns:
                    if campaign not in outcomes:
                        if not campaign.is_over:
                            campaign.end("interrupted")
                        ended(campaign)
        return [one if isinstance(one, Run) else outcomes[one] for one in runs]
    except OSError as error:
        if all(folder is None for _, folder in designs) or isinstance(error, ConnectionError):
            raise
        raise OSError(
            error.errno, f"{error.strerror or error}; what was finished is kept, --resume goes on with it", error.filename
        ) from error
    finally:
        for one in runs:
            if isinstance(one, Campaign) and one.journal:
                one.journal.close(complete=False)


def begun_as(design: Design, folder: Path | str | None) -> Design:
    """This design with the cap on the wall clock that the run in a folder was begun with, where there is one."""
    cap = None if folder is None else held_cap(Path(folder))
    return design if cap is None else replace(design, cap_seconds=cap)


def _campaign(design: Design, folder: Path | None, resume: bool, freeze: Freeze | None, cap: float) -> Campaign:
    identity = {
        "design_sha256": design.digest(),
        "cap_seconds": design.cap_seconds,
        "sources_sha256": source_hash(),
        "freeze_sha256": freeze.sha256 if freeze else None,
    }
    return Campaign(design, None if folder is None else Journal(folder, identity, resume=resume), freeze, cap)


def _work(campaigns: Sequence[Campaign], pool: Executor, patience: float, ended: Callable[[Campaign], None]) -> None:
    """Run every task of the campaigns; ``patience`` is how long no task at all may end."""
    done: SimpleQueue[tuple[Campaign, Future[Any]]] = SimpleQueue()
    running = list(campaigns)
    for campaign in running:
        campaign.begin(pool, lambda future, campaign=campaign: done.put((campaign, future)))  # type: ignore[misc]
    while running:
        left = min(campaign.seconds_left for campaign in running)
        try:
            campaign, future = done.get(timeout=max(0.0, min(left, patience)))
            campaign.take(future)
        except Empty:
            if left > patience:
                for campaign in running:
                    campaign.give_up_waiting(patience)
        for campaign in list(running):
            if campaign.pending and campaign.seconds_left <= 0:
                campaign.end("stopped")
            if not campaign.pending:
                running.remove(campaign)
                ended(campaign)
    if isinstance(pool, WorkerPool) and any(campaign.status != "complete" for campaign in campaigns):
        pool.kill()  # nobody wants what a run that was halted or stopped still has under way


def _outcome(campaign: Campaign, workers: int | None) -> Run:
    """Judge what there is and write it."""
    campaign.conclude()
    document = document_of(campaign) | {"run": circumstances_of(campaign, workers)}
    arrays, journal = arrays_of(campaign), campaign.journal
    if journal is None:
        return Run(store.seal(document, store.arrays_as_bytes(arrays)), arrays, None)
    document = store.write_results(journal.folder, document, arrays)
    journal.close(complete=document["status"] == "complete")
    return Run(document, arrays, journal.folder)


@contextmanager
def _here(executor: Executor) -> Iterator[Executor]:
    with tasks.one_blas_thread_here():
        yield executor


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep what is done in peace: further signals to end are ignored (they can be set in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
