"""Hand-derived gradients of thermokernels: one file across from each differentiable file there, with the same name."""

from adjoints.asymptotic_variance import asymptotic_variance
from adjoints.hypernetwork import couplings_jacobian, couplings_vjp
from adjoints.laws import kl_divergence
from adjoints.signal_to_noise import q_struct
from adjoints.trace_probes import probe_q_struct, probe_variance_time
from adjoints.variance_time import Cotangents, observable_variance_time

__all__ = [
    "Cotangents",
    "asymptotic_variance",
    "couplings_jacobian",
    "couplings_vjp",
    "kl_divergence",
    "observable_variance_time",
    "probe_q_struct",
    "probe_variance_time",
    "q_struct",
]
