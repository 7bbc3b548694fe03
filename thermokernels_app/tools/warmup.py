"""Compile ahead: every kernel that the commands need, in a few processes side by side, on models small enough to cost nothing else."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from thermokernels_app.experiment.records.environment import available_cores
from thermokernels_app.experiment.running.tasks import collecting_rarely

PARTS = ("compile_solves", "compile_measures", "compile_checks", "compile_diagnosis", "compile_estimates")


def warm_up() -> dict[str, Any]:
    """Compile, or load, all kernels; ``folder``, ``kernels`` (compiled signatures in it), ``compiled`` (of them now) and ``seconds``.

    Raises
    ------
    ValueError
        The folder of compiled kernels cannot be written, so that nothing would be kept.
    """
    from thermokernels.compiled.decorator import cache_folder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the sentence below says it
        folder = cache_folder()
    if folder is None:
        raise ValueError("compiled kernels cannot be kept: the cache folder cannot be written; set NUMBA_CACHE_DIR to a writable folder")
    before, start = _signatures(folder), time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(available_cores(), len(PARTS)), mp_context=context) as pool:
        for part in [pool.submit(compile_part, name) for name in PARTS]:
            part.result()
    after = _signatures(folder)
    return {
        "folder": str(folder),
        "kernels": len(after),
        "compiled": len(after - before),
        "seconds": time.perf_counter() - start,
    }


def compile_part(name: str) -> None:
    """Compile one of ``PARTS``: what a worker executes."""
    with collecting_rarely():
        globals()[name]()


def compile_solves() -> None:
    from thermokernels_app.experiment import cell
    from thermokernels_app.experiment.design import load_design

    with cell.one_blas_thread():
        cell.compile_solves(load_design("default"))


def compile_measures() -> None:
    from thermokernels_app.experiment import cell
    from thermokernels_app.experiment.design import load_design

    with cell.one_blas_thread():
        cell.compile_measures(load_design("default"))


def compile_checks() -> None:
    """Training, polishing, and a gradient check with every leg."""
    from thermokernels_app.experiment import cell
    from thermokernels_app.experiment.design import load_design

    design = load_design("smoke")
    with cell.one_blas_thread():
        cell.compile_training(design)
        short = replace(design, training=replace(design.training, steps=1))
        _, _, training = cell.train(short, min(design.grid.m), design.grid.split[0])
        cell.gradient_check(short, training, "final")
        cell.polish(short, training, 1)


def compile_diagnosis() -> None:
    """Models with and without fields, small and large enough for the iterative solvers, and the sampler."""
    import numpy as np

    import thermokernels as tk

    draws = np.random.default_rng(0)
    for n_visible, fields in ((2, False), (4, True), (5, False)):
        W, b = draws.normal(size=(n_visible, n_visible)), 0.1 * draws.normal(size=n_visible)
        law = np.full(2**n_visible, 0.5**n_visible)
        tk.diagnose(W, b if fields else None, b if fields else None, p_data=law)
    tk.observable_variance_time(tk.gibbs_chain(np.zeros((7, 7))))  # large enough for float32


def compile_estimates() -> None:
    """Coupled chains of every kernel, with and without data."""
    import thermokernels as tk
    from thermokernels.model.kernels.registry import KERNELS

    for kernel in KERNELS.values():
        if kernel.coupled:
            tk.estimate_q([[0.1, 0.2]], [[1]], kernel=kernel.name, n_replicates=32)


def _signatures(folder: Path) -> set[Path]:
    """The compiled signatures that are kept: numba writes one data file for each."""
    return set(folder.rglob("*.nbc"))
