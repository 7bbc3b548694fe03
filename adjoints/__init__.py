"""Hand-derived gradients of thermokernels: one file across from each differentiable file there, with the same name."""

from adjoints.hypernet import couplings_jacobian, couplings_vjp
from adjoints.observables import Cotangents, observable_variance_time, q_struct
from adjoints.probes import probe_q_struct, probe_variance_time
from adjoints.rbm import kl_divergence

__all__ = [
    "Cotangents",
    "couplings_jacobian",
    "couplings_vjp",
    "kl_divergence",
    "observable_variance_time",
    "probe_q_struct",
    "probe_variance_time",
    "q_struct",
]
