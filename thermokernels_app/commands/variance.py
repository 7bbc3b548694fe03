"""The command for one long number of a model of your own: variance, T_O exact or by probes, at the largest sizes that fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thermokernels_app.commands.console import AsJson, errors, say
from thermokernels_app.commands.executors import ExecutorKind, Kind, Scheduler, WorkersForThreads, pool_of
from thermokernels_app.commands.models import Convention, ModelFile, Samples, Window, read_model

if TYPE_CHECKING:
    from thermokernels import Model
    from thermokernels.common.arrays import Floats
    from thermokernels.solvers.solve import Solve

# From here on intervals of two standard errors held their level in the tests.
MANY_PROBES = 16
# Of the result, as large as the model: left out of the document.
ARRAYS = ("g", "g_visible", "g_hidden")

EXIT_CODES = (
    "Exit codes: 0 computed; 1 unexpected error; 2 bad usage or input, or a model that is too large; "
    "11 not resolved in float64; 130 interrupted (with --checkpoint what is done is kept)"
)


def variance(
    model: ModelFile,
    data: Samples = None,
    window: Window = 100.0,
    probes: Annotated[
        int | None, typer.Option("--probes", min=2, help="Estimate T_O from so many random sign vectors instead of all observables.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the probes (with --probes).")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="File that keeps finished blocks; the same command goes on from it.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of this process; by default one for every core. A worker uses one.")
    ] = None,
    workers: WorkersForThreads = None,
    executor: ExecutorKind = Kind.processes,
    scheduler: Scheduler = None,
    convention: Convention = None,
    as_json: AsJson = False,
) -> None:
    """T_O, the integrated variance time of all gradient observables, and Q where samples are given.

    Exact with a proven bound on its error, or with --probes an unbiased estimate with its standard error. With --workers, or with
    --executor dask, a few observables at a time are tasks of other processes; no digit depends on it.
    """
    with errors(as_json):
        from thermokernels import set_threads
        from thermokernels.common import arguments, footprint, memory
        from thermokernels.solvers.solve import Solve
        from thermokernels_app.tools import data_files

        if (probes is None) != (seed is None):
            raise ValueError("--probes and --seed belong together: an estimate is repeatable by its seed")
        if threads is not None:
            set_threads(threads)
        pool = pool_of(executor, scheduler, workers)
        machine = read_model(model, convention, has_data=data is not None)
        n_visible, n_hidden, full = machine.n_visible, machine.n_hidden, machine.has_fields
        arguments.as_positive(window, "--window", "sweeps")
        n_bytes = footprint.require_variance_time(n_visible, n_hidden, full)
        if workers is not None:
            memory.require(workers * n_bytes, f"a solve in each of {workers} workers", "use fewer")
        law = None if data is None else data_files.read_data_law(data, n_visible)
        states = f"2**{n_visible + n_hidden - (not full)} {'states' if full else 'pairs {x, -x}'}"
        what = f"{n_visible} visible + {n_hidden} hidden spins, {states}, {machine.n_couplings} observables"
        say(f"{what}: from {memory.readable(n_bytes)} of memory")
        try:
            with pool as elsewhere, _chunks_done() as progress:
                solve = Solve(progress=progress, checkpoint=checkpoint, executor=elsewhere)
                found = _exact(machine, law, window, solve) if probes is None else _probed(machine, law, window, solve, probes, seed or 0)
        except KeyboardInterrupt:
            if checkpoint is not None and checkpoint.exists():
                print(f"finished solves are kept in {checkpoint}: the same command goes on from them", file=sys.stderr)
            raise
        n_spins = n_visible + n_hidden
        found = {"model": str(model), "data": None if data is None else str(data), "n_spins": n_spins, **found}
        if as_json:
            print(json.dumps(found, allow_nan=False))
        else:
            _print(found, n_spins)


def _exact(model: Model, law: Floats | None, window: float, solve: Solve) -> dict[str, Any]:
    from thermokernels.common.errors import NumericalError
    from thermokernels.quantities import asymptotic_variance
    from thermokernels.quantities.signal_to_noise import chain_q_struct
    from thermokernels.quantities.variance_time import model_chain, variance_time

    chain = model_chain(model)
    if law is not None:
        q = chain_q_struct(chain, law, window, solve).as_dict()
        return {name: q[name] for name in q if name not in ARRAYS} | {"window_sweeps": window}
    time = variance_time(chain, solve)
    found: dict[str, Any] = {"t_obs_steps": time.value}
    try:
        found["t_obs_bound_steps"] = time.bound
    except NumericalError as problem:
        found |= {"t_obs_bound_steps": None, "t_obs_bound_reason": str(problem)}
    resolved = found["t_obs_bound_steps"] is not None
    found["asymptotic_variance_steps"] = asymptotic_variance.of_variance_time(time)
    found["asymptotic_variance_bound_steps"] = asymptotic_variance.bound_of(time) if resolved else None
    found |= {"residual": time.residual, "iterations": time.iterations, "method": time.method}
    return found


def _probed(model: Model, law: Floats | None, window: float, solve: Solve, probes: int, seed: int) -> dict[str, Any]:
    from thermokernels.quantities.asymptotic_variance import total_variance
    from thermokernels.quantities.signal_to_noise import chain_signal, signal_error
    from thermokernels.quantities.trace_probes import DIRECTIONS, probed, probed_q
    from thermokernels.quantities.variance_time import model_chain

    chain = model_chain(model)
    g = None if law is None else chain_signal(chain, law, window)
    time = probed(chain, probes, seed, DIRECTIONS, solve)
    found: dict[str, Any] = {
        "t_obs_steps": time.value,
        "t_obs_standard_error_steps": time.standard_error,
        "asymptotic_variance_steps": 2 * time.value - total_variance(chain)[0],
        "asymptotic_variance_standard_error_steps": 2 * time.standard_error,
        "probes": probes,
        "seed": seed,
        "directions": len(time.directions),
        "exact_share": time.exact / time.value,
        "residual": time.residual,
        "iterations": time.iterations,
        "method": time.method,
    }
    if g is not None:
        q = probed_q(time, *g)
        found |= {"signal": q.signal, "signal_bound": signal_error(chain.model, q.g), "window_sweeps": window}
        found |= {"q": q.value, "q_standard_error": q.standard_error}
        if (variance := found["asymptotic_variance_steps"]) > 0.0:  # of few probes it need not be
            limit = q.window_steps * q.signal / variance
            found |= {"q_limit": limit, "q_limit_standard_error": limit * 2 * time.standard_error / variance}
    return found


def _print(found: dict[str, Any], n_spins: int) -> None:
    """Certain digits only; of an estimate those down to a tenth of its standard error."""
    from thermokernels.common.digits import certified
    from thermokernels_app.report.screens.layout import print_fact

    value, estimated = found["t_obs_steps"], "probes" in found
    error = 0.01 * found["t_obs_standard_error_steps"] if estimated else found["t_obs_bound_steps"]
    in_sweeps = certified(value / n_spins, None if error is None else error / n_spins, 10)
    print_fact("T_O", f"{certified(value, error, 10)} steps = {in_sweeps} sweeps")
    if estimated:
        error = found["t_obs_standard_error_steps"]
        print_fact("", f"standard error {error:.2g} steps ({error / value:.1%}), {found['probes']} probes, seed {found['seed']}")
        print_fact("", f"{found['exact_share']:.1%} of it exact, along {found['directions']} directions")
        if found["probes"] < MANY_PROBES:
            print_fact("", f"uncertain itself with {found['probes']} probes: {MANY_PROBES} and more give a fair error")
    elif error is None:
        print_fact("", f"no error bound: {found['t_obs_bound_reason']}")
    else:
        proof = "state reduction, proven" if found["method"] == "reduction" else "residual and proven gap"
        print_fact("", f"error at most {error:.2g} steps ({proof})")
    value = found["asymptotic_variance_steps"]
    error = 0.01 * found["asymptotic_variance_standard_error_steps"] if estimated else found["asymptotic_variance_bound_steps"]
    print_fact("V", f"{certified(value, error, 10)} steps, the asymptotic variance 2 T_O - sum Var")
    if "q" in found:
        error = 0.01 * found["q_standard_error"] if estimated else found["q_bound"]
        words = (
            f"standard error {found['q_standard_error']:.2g}" if estimated else f"error at most {error:.2g}" if error is not None else ""
        )
        signal = certified(found["signal"], found["signal_bound"])
        print_fact(
            "Q", f"{certified(found['q'], error)} at {found['window_sweeps']:g} sweeps; {words or 'no error bound'}; |g|^2 = {signal}"
        )
    if "q_limit" in found:
        error = 0.01 * found["q_limit_standard_error"] if estimated else found["q_limit_bound"]
        print_fact("Q_limit", f"{certified(found['q_limit'], error)} in the limit of long windows, K |g|^2 / V")
    effort = f", at most {found['iterations']} iterations" if found["iterations"] else ""
    effort = ", in the norm of the resolvent, proven" if found["method"] == "reduction" else effort
    print_fact("residual", f"{found['residual']:.2g} ({found['method']}{effort})")


@contextmanager
def _chunks_done() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere a line at every quarter of the observables."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("solves"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    shown = 0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if shown < 4 * done // total < 4:
            shown = 4 * done // total
            print(f"{done} of {total} solves done", file=sys.stderr)

    yield show
