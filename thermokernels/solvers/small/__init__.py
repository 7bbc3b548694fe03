"""Chains of up to 1024 states: eight observables a vector, one parity class eliminated, a factorisation or conjugate gradients."""
