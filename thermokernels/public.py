"""The public names of the package: what ``thermokernels`` hands on."""

from importlib.metadata import PackageNotFoundError, version

from thermokernels import plot
from thermokernels.common.errors import (
    ExecutorError,
    ModelTooLargeError,
    NotConvergedError,
    NotReversibleError,
    NumericalError,
    UnresolvedError,
)
from thermokernels.common.threads import get_threads, set_threads
from thermokernels.comparison.compare import compare
from thermokernels.comparison.result import Comparison
from thermokernels.diagnosis.diagnose import Diagnosis, diagnose
from thermokernels.estimates.estimate import estimate_q
from thermokernels.estimates.result import QEstimate
from thermokernels.estimates.track import Track, TrackedModel, Tracker, track
from thermokernels.model.chain import GibbsChain, gibbs_chain
from thermokernels.model.conversions import from_ising, from_zero_one, law_of_samples
from thermokernels.model.exchangeable import ExchangeableChain, exchangeable_chain
from thermokernels.model.files.loading import load_history, load_model
from thermokernels.model.graphs import from_dimod, from_graph, from_thrml
from thermokernels.model.hypernetwork import Hypernetwork, couplings
from thermokernels.model.importers import from_rbms, from_scikit_learn
from thermokernels.model.laws import kl_divergence, visible_law
from thermokernels.model.model import Model
from thermokernels.program import selftest
from thermokernels.quantities.alternating_scan import AlternatingTime, alternating_variance_time
from thermokernels.quantities.asymptotic_variance import asymptotic_variance
from thermokernels.quantities.autocorrelation_times.autocorrelation_function import autocorrelation_function
from thermokernels.quantities.conductance import conductance
from thermokernels.quantities.exchangeable.exchangeable_blocks import ExchangeableBlocks, exchangeable_blocks
from thermokernels.quantities.exchangeable.exchangeable_sums import ExchangeableQ, exchangeable_q
from thermokernels.quantities.first_passage import hitting_times, mean_first_passage
from thermokernels.quantities.landscape import MergeEvent, MergeTree, merge_tree
from thermokernels.quantities.pseudo_likelihood import pseudo_likelihood
from thermokernels.quantities.relevance import observable_span, relevance
from thermokernels.quantities.signal_to_noise import QStruct, q_struct
from thermokernels.quantities.spectral_gap import SpectralGap, solve_spectral_gap, spectral_gap
from thermokernels.quantities.spectral_measure import SpectralMeasure, spectral_measure
from thermokernels.quantities.trace_probes import ProbedQ, ProbedTime, probe_q_struct, probe_variance_time
from thermokernels.quantities.variance_time import observable_variance_time
from thermokernels.quantities.windows.operational_q import OperationalCurve, OperationalQ, operational_curve, operational_q
from thermokernels.quantities.windows.window_variance import window_variance
from thermokernels.sampling.samplers import sample
from thermokernels.sampling.samples import Samples
from thermokernels.solvers.gap_bounds import gap_lower_bound
from thermokernels.solvers.resolvent import Resolvent, resolvent, solve_resolvent

LabelledModel = Model  # what it was called when only models with named spins were one

try:
    __version__ = version("thermokernels")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"

__all__ = [
    "AlternatingTime",
    "Comparison",
    "Diagnosis",
    "ExchangeableBlocks",
    "ExchangeableChain",
    "ExchangeableQ",
    "ExecutorError",
    "GibbsChain",
    "Hypernetwork",
    "LabelledModel",
    "MergeEvent",
    "MergeTree",
    "Model",
    "ModelTooLargeError",
    "NotConvergedError",
    "NotReversibleError",
    "NumericalError",
    "OperationalCurve",
    "OperationalQ",
    "ProbedQ",
    "ProbedTime",
    "QEstimate",
    "QStruct",
    "Resolvent",
    "Samples",
    "SpectralGap",
    "SpectralMeasure",
    "Track",
    "TrackedModel",
    "Tracker",
    "UnresolvedError",
    "alternating_variance_time",
    "asymptotic_variance",
    "autocorrelation_function",
    "compare",
    "conductance",
    "couplings",
    "diagnose",
    "estimate_q",
    "exchangeable_blocks",
    "exchangeable_chain",
    "exchangeable_q",
    "from_dimod",
    "from_graph",
    "from_ising",
    "from_rbms",
    "from_scikit_learn",
    "from_thrml",
    "from_zero_one",
    "gap_lower_bound",
    "get_threads",
    "gibbs_chain",
    "hitting_times",
    "kl_divergence",
    "law_of_samples",
    "load_history",
    "load_model",
    "mean_first_passage",
    "merge_tree",
    "observable_span",
    "observable_variance_time",
    "operational_curve",
    "operational_q",
    "plot",
    "probe_q_struct",
    "probe_variance_time",
    "pseudo_likelihood",
    "q_struct",
    "relevance",
    "resolvent",
    "sample",
    "selftest",
    "set_threads",
    "solve_resolvent",
    "solve_spectral_gap",
    "spectral_gap",
    "spectral_measure",
    "track",
    "visible_law",
    "window_variance",
]
