"""Q, T_O and the KL divergence with their hand-derived gradients, as functions of other frameworks.

A module each: :mod:`thermokernels_bridges.jax`, :mod:`thermokernels_bridges.torch`, :mod:`thermokernels_bridges.scipy`, and
:mod:`thermokernels_bridges.numba` for compiled code. Each has the same three functions, ``q_struct``, ``observable_variance_time`` and
``kl_divergence``; JAX and PyTorch have ``estimated_q`` of large models, too. Importing one imports its framework, importing this package
imports none. Conventions: see :mod:`thermokernels`.
"""
