"""The tasks of a run: training, one cell, one checkpoint, one test for stationarity; each returns a plain record and its arrays.

Pure functions of the design and a trained network, top-level and picklable, so that any executor can run them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from adjoints.bounds import q_struct_gradient_bound
from adjoints.hypernetwork import couplings_jacobian, couplings_vjp
from adjoints.signal_to_noise import chain_q_struct_gradient
from adjoints.small_models import compile_gradients
from thermokernels.common.arrays import Floats
from thermokernels.common.errors import NumericalError
from thermokernels.compiled.simd_states import aligned_zeros
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.hypernetwork import Hypernetwork, couplings
from thermokernels.quantities import first_passage, landscape, spectral_measure
from thermokernels.quantities.conductance import conductance, conductance_error
from thermokernels.quantities.landscape import MergeEvent
from thermokernels.quantities.relevance import ObservableBasis, observable_basis
from thermokernels.quantities.signal_to_noise import QStruct
from thermokernels.quantities.spectral_gap import solve_spectral_gap
from thermokernels.quantities.variance_time import is_small
from thermokernels.quantities.windows.window_variance import window_variance
from thermokernels.solvers import gap_bounds, parity_classes, resolvent
from thermokernels.solvers.off_target import CHOLESKY_STATES
from thermokernels.solvers.small import mixed_side_by_side
from thermokernels.solvers.small.small_cholesky import DENSE_STATES
from thermokernels.solvers.solve import Solve
from thermokernels.solvers.state_reduction import reduced_gap
from thermokernels.solvers.state_reduction.gth_elimination import eliminate_in_float64
from thermokernels.solvers.state_reduction.reduced_resolvent import ground_state
from thermokernels_app.experiment.design import Design
from thermokernels_app.experiment.polishing import polish as polish_code
from thermokernels_app.experiment.records.store import Arrays, Record
from thermokernels_app.experiment.teachers import teacher
from thermokernels_app.experiment.training import Training, code_vector, directions, initial_parameters, network_shape
from thermokernels_app.experiment.training import train as train_network
from thermokernels_app.judges import battery
from thermokernels_app.judges import gradient_check as gradient_judge

Result = tuple[Record, Arrays]


@cache
def _threadpools() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread: workers do not fight over cores, and no sum depends on how many there are."""
    with _threadpools().limit(limits=1, user_api="blas"):
        yield


def compile_training(design: Design) -> None:
    """Compile, or load from the cache, what training needs: one step of the smallest network."""
    train_network(replace(design, training=replace(design.training, steps=1)), min(design.grid.m), design.grid.split[0])


def compile_solves(design: Design) -> None:
    """Compile, or load from the cache, what Q of all models, spectra, the landscape and its cuts need: half of the work.

    What the other half compiles too comes last.
    """
    models = list(_untrained(design))
    for chain, _ in models:
        spectral_measure.gap_run(chain).gauss_rules()
        landscape.merge_tree(chain)
        conductance(chain, [0])
    for chain, law in models:
        spectral_measure.measure_of(_compile_solves(design, chain, law).state_time)


def compile_measures(design: Design) -> None:
    """The same for what else cells and checks need: the solves and gradients of small models by themselves, first passages, state reduction
    and the bound of a small chain's gap. The solves first: the other half needs them late."""
    models = list(_untrained(design))
    for chain, _ in models:
        if chain.n_states > DENSE_STATES and is_small(chain, Solve()):
            classes = parity_classes.parity_classes(chain)
            mixed_side_by_side.solve(classes, aligned_zeros(1, chain.n_states), design.thresholds.solve, in_single=True)
    compile_gradients(quotient=True)
    for chain, _ in models:
        first_passage.solve_mean_first_passage(chain, [0], [1])
        if chain.n_states <= CHOLESKY_STATES:
            reduced_gap.reduced_modes(chain)  # of spectra that float64 leaves unresolved
            eliminate_in_float64(chain, ground_state(chain))  # as larger chains are
            resolvent.solve(chain, np.zeros((1, chain.n_states)), "auto", design.thresholds.solve)
            gap_bounds.gap_lower_bound(chain)


def _compile_solves(design: Design, chain: GibbsChain, law: Floats) -> QStruct:
    q, _ = chain_q_struct_gradient(chain, law, design.window_sweeps, Solve(rtol=design.thresholds.solve))
    _ = q.bound, q.state_time.responses  # the judge looks at these
    return q


def _untrained(design: Design) -> Iterator[tuple[GibbsChain, Floats]]:
    """The model and the law of the data of the first code, for the smallest and for the largest untrained network."""
    for m in sorted({min(design.grid.m), max(design.grid.m)}):
        split = design.grid.split[0]
        network = Hypernetwork.from_parameters(initial_parameters(design, m, split), network_shape(design, m, split))
        yield gibbs_chain(couplings(network, code_vector(design, 1))), teacher(design, m, 1).law


def train(design: Design, m: int, split: int) -> tuple[Record, Arrays, Training]:
    """Train one network; the arrays are phi at the four checkpoints and the KL curves."""
    training = train_network(design, m, split)
    arrays = {f"{checkpoint.name}/phi": checkpoint.phi for checkpoint in training.checkpoints} | {"kl": training.curve}
    return {"m": m, "split": split}, arrays, training


def cell(design: Design, training: Training, name: str, code: int) -> Result:
    """One cell: everything that is measured of the model that a network emits for one code.

    Parameters
    ----------
    design : Design
    training : Training
        The trained network; its curve is not used.
    name : str
        Which checkpoint of it.
    code : int
        Which teacher, 1, 2, ...

    Returns
    -------
    record : dict
        ``status`` is "ok", or "halted" with ``halt`` naming the failed check; then what was computed before is in the record.
    arrays : dict of ndarray
        W, dq_dw (n_v, n_h); dq_dphi (n_parameters,); spectrum_gaps (per step) and spectrum_weights.
    """
    checkpoint = training.checkpoint(name)
    record: Record = {"m": training.m, "split": training.split, "checkpoint": name, "code": code, "status": "ok", "halt": None}
    record["training"] = {
        "step": checkpoint.step,
        "kl": float(checkpoint.kl[code - 1]),
        "mean_kl": checkpoint.mean_kl,
        "reached": checkpoint.reached,
    }
    try:
        measured, arrays, failure = _measure(
            design, training.network(name), code_vector(design, code), teacher(design, training.m, code).law
        )
    except NumericalError as error:
        return record | {"status": "halted", "halt": {"check": type(error).__name__, "detail": str(error)}}, {}
    record |= measured
    if failure is None and (path := _not_finite(record)):
        failure = "finite", f"{path} is not a finite number"
    if failure is not None:
        record |= {"status": "halted", "halt": {"check": failure[0], "detail": failure[1]}}
    return record, arrays


def check(design: Design, training: Training, name: str) -> Result:
    """One checkpoint: how far apart the emitted couplings are, and the gradient check: all legs at the anchor, elsewhere the complex step
    past the verified solution (dense references and central differences at every checkpoint cost more than the whole run)."""
    network = training.network(name)
    emitted = [couplings(network, code_vector(design, code)) for code in design.grid.codes]
    distances = [float(np.linalg.norm(one - other)) for one, other in combinations(emitted, 2)]
    record: Record = {"m": training.m, "split": training.split, "checkpoint": name}
    record["min_coupling_distance"] = min(distances, default=None)
    anchor = design.anchor
    at_anchor = (training.m, training.split, name) == (anchor.m, anchor.split, anchor.checkpoint)
    checked = gradient_check(design, training, name, every_leg=at_anchor)
    record["gradient_check"] = checked
    missing = [key for key in ("value_error", "complex_error") for part in (checked, *checked["directions"]) if part.get(key, 0.0) is None]
    if missing:
        record["halt"] = {"check": f"gradient {missing[0]}", "detail": "the gradient check gave a number that is not finite"}
    elif (residual := checked["solution_residual"]) is not None and residual > design.thresholds.solve:
        detail = (
            f"the judge finds a relative residual of {residual:.3g} in the kernels' solution; at most {design.thresholds.solve:g} is wanted"
        )
        record["halt"] = {"check": "gradient solution_residual", "detail": detail}
    return record, {}


def gradient_check(design: Design, training: Training, name: str, every_leg: bool = True, with_automatic: bool = False) -> Record:
    """Value and adjoint of one checkpoint against the references, see :func:`thermokernels_app.judges.gradient_check.gradient_check`."""
    codes = range(1, design.teacher.codes + 1)
    return gradient_judge.gradient_check(
        training.network(name),
        np.array([code_vector(design, code) for code in codes]),
        np.array([teacher(design, training.m, code).law for code in codes]),
        directions(design, training.m, training.split),
        gradient_judge.kernels(design.window_sweeps),
        window=design.window_sweeps,
        steps=design.steps if every_leg else (),
        dense=every_leg,
        with_automatic=with_automatic,
    )


def polish(design: Design, training: Training, code: int) -> Result:
    """Whether a code that ended with a large KL sits at a stationary point."""
    return {"m": training.m, "split": training.split, **asdict(polish_code(design, training, code))}, {}


def _measure(design: Design, network: Hypernetwork, u: Floats, law: Floats) -> tuple[Record, Arrays, tuple[str, str] | None]:
    """The record and arrays of one model, and the failed check of the battery with its sentence, or None."""
    weights = couplings(network, u)
    jacobian = couplings_jacobian(network, u)
    # Left singular vectors: the directions in which the network can move W, as many as J_u has rank.
    directions_of_couplings, singular_values, _ = np.linalg.svd(jacobian, full_matrices=False)
    rank = int((singular_values > design.thresholds.rank * singular_values[0]).sum())
    chain = gibbs_chain(weights)
    q, ct_model = chain_q_struct_gradient(chain, law, design.window_sweeps, Solve(rtol=design.thresholds.solve))
    dq_dphi = couplings_vjp(network, u, ct_model.W)
    measure = spectral_measure.measure_of(q.state_time)
    gap = solve_spectral_gap(chain, sharp=False)
    tree = landscape.merge_tree(chain)
    basis = observable_basis(chain, directions_of_couplings[:, :rank])
    measured = _Events(design, chain, basis)
    events = measured.records(tree.events)
    orderings = [measured.records(ordering) for ordering in tree.orderings(design.seed, design.multiway.exhaustive, design.multiway.orders)]
    examined = battery.examine(
        chain,
        solver_residual=q.residual,
        gap=gap.value,
        conductances=measured.conductances,
        cuts=np.array(measured.cuts) if measured.cuts else None,
        hitting_residuals=measured.hitting_residuals,
        thresholds=asdict(design.thresholds),
    )
    record: Record = {
        "q": {
            "value": q.value,
            "value_bound": q.bound,
            "signal": q.signal,
            "signal_bound": q.signal_bound,
            "t_obs_steps": q.t_obs,
            "t_obs_bound_steps": q.t_obs_bound,
            "window_sweeps": design.window_sweeps,
            "residual": q.residual,
            "iterations": q.iterations,
            "method": q.method,
            "operational": q.signal / window_variance(measure, q.window_steps),
        },
        "gradient": {
            "dq_dw_norm": float(np.linalg.norm(ct_model.W)),
            "dq_dw_bound": q_struct_gradient_bound(q, ct_model.W, law),
            "dq_dphi_norm": float(np.linalg.norm(dq_dphi)),
        },
        "network": {
            "jacobian_norm": float(np.linalg.norm(jacobian)),
            "jacobian_finite": bool(np.isfinite(jacobian).all()),
            "rank": rank,
            "rank_expected": network.rank * (network.n_visible + network.n_hidden - network.rank),
            "observable_span": basis.dimension,
        },
        "spectrum": {
            "gap": gap.value,
            "gap_bound": gap.bound,
            "relevant_gap": measure.relevant_gap,
            "gamma_eff_sweep": measure.gamma_eff,
            "gamma_eff_step": measure.gamma_eff_step,
            "gamma_eff_error": measure.gamma_eff_error,
            "cluster_size": measure.cluster_size,
        },
        "landscape": {
            "minima": tree.n_minima,
            "multiway_saddles": tree.n_multiway_saddles,
            "events": events,
            "orderings": orderings,
            "bounds": {
                "barrier": tree.barrier_error,
                "passage_relative": max(measured.passage_bounds, default=0.0),
                "relevance": max(measured.relevance_bounds, default=0.0),
                "conductance_relative": conductance_error(chain),
            },
        },
        "battery": examined.record,
    }
    if measure.cluster_size is None:
        record["spectrum"]["cluster_size_reason"] = "the cluster reaches into a bulk whose eigenvalues were not told apart"
    arrays = {
        "W": weights,
        "dq_dw": ct_model.W,
        "dq_dphi": dq_dphi,
        "spectrum_gaps": measure.gaps,
        "spectrum_weights": measure.weights,
    }
    failure = examined.first_failure
    return record, arrays, None if failure is None else (failure.name, str(failure))


class _Events:
    """The merge events of one chain as records, each measured once however many orderings it is in."""

    def __init__(self, design: Design, chain: GibbsChain, basis: ObservableBasis) -> None:
        self.thresholds, self.chain, self.basis = design.thresholds, chain, basis
        self.cuts: list[NDArray[np.bool_]] = []
        self.conductances: list[float] = []
        self.hitting_residuals: list[float] = []
        self.passage_bounds: list[float] = []
        self.relevance_bounds: list[float] = []
        self._known: dict[MergeEvent, Record] = {}

    def records(self, events: Sequence[MergeEvent]) -> list[Record]:
        for event in events:
            if event not in self._known:
                self._known[event] = self._record(event)
        return [self._known[event] for event in events]

    def _record(self, event: MergeEvent) -> Record:
        chain, dying, surviving = self.chain, event.dying, event.surviving
        self.cuts.append(dying)
        self.conductances.append(conductance(chain, dying))
        record: Record = {
            "saddle_energy": event.saddle_energy,
            "barrier": event.barrier,
            "multiplicity": event.multiplicity,
            "mass_dying": event.dying_mass,
            "mass_surviving": event.surviving_mass,
        }
        # Two solves an event, spared where the event has already failed a filter.
        if min(event.dying_mass, event.surviving_mass) >= self.thresholds.mass and event.barrier >= self.thresholds.barrier:
            record |= {
                "passage_out_sweeps": self._passage(dying, surviving),
                "passage_back_sweeps": self._passage(surviving, dying),
            }
        else:
            record |= {"passage_out_sweeps": None, "passage_back_sweeps": None, "passages": "not needed"}
        relevance, bound = self.basis.enclosed_relevance(dying)
        self.relevance_bounds.append(bound)
        return record | {"relevance": relevance, "conductance": self.conductances[-1]}

    def _passage(self, start: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
        first = first_passage.solve_mean_first_passage(self.chain, start, target)
        certified = battery.hitting_certificate(self.chain, first.hitting.times, target)
        self.hitting_residuals.append(float(np.maximum(first.hitting.residual, certified)))  # NaN, no certificate, stays NaN
        self.passage_bounds.append(first.relative_bound)
        return first.value / self.chain.n_spins


def _not_finite(value: Any, path: str = "") -> str | None:
    """The dotted path of the first number in a record that is not finite, or None."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if found := _not_finite(item, f"{path}.{key}" if path else str(key)):
            return found
    return path if isinstance(value, float) and not math.isfinite(value) else None
