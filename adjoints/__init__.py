"""Hand-derived gradients of thermokernels: one file across from each differentiable file there, with the same name.

A function ``<quantity>_and_gradient`` returns the value as thermokernels does, and its derivatives; ``<quantity>`` is a shorter name of it.
"""

from adjoints.asymptotic_variance import asymptotic_variance, asymptotic_variance_and_gradient
from adjoints.batches import QBatch
from adjoints.cotangents import Cotangents
from adjoints.estimates.estimate import EstimatedGradient, estimate_q_and_gradient
from adjoints.exchangeable import exchangeable_asymptotic_variance, exchangeable_q, exchangeable_variance_time
from adjoints.hypernetwork import couplings_jacobian, couplings_vjp
from adjoints.laws import kl_divergence, kl_divergence_and_gradient
from adjoints.signal_to_noise import q_struct, q_struct_and_gradient
from adjoints.trace_probes import probe_q_struct, probe_q_struct_and_gradient, probe_variance_time, probe_variance_time_and_gradient
from adjoints.variance_time import observable_variance_time, observable_variance_time_and_gradient

estimate_q = estimate_q_and_gradient

__all__ = [
    "Cotangents",
    "EstimatedGradient",
    "QBatch",
    "asymptotic_variance",
    "asymptotic_variance_and_gradient",
    "couplings_jacobian",
    "couplings_vjp",
    "estimate_q",
    "estimate_q_and_gradient",
    "exchangeable_asymptotic_variance",
    "exchangeable_q",
    "exchangeable_variance_time",
    "kl_divergence",
    "kl_divergence_and_gradient",
    "observable_variance_time",
    "observable_variance_time_and_gradient",
    "probe_q_struct",
    "probe_q_struct_and_gradient",
    "probe_variance_time",
    "probe_variance_time_and_gradient",
    "q_struct",
    "q_struct_and_gradient",
]
