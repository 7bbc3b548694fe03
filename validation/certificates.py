"""Claim: every bound that the package gives holds, for every kernel, and its median lies near the true error.

    python validation/certificates.py                      1,500 random models for each kernel, about an hour
    python validation/certificates.py --models 60          fewer
    python validation/certificates.py --kernel two-block   one kernel

Models are small and hard: couplings from 0.1 to 60 of seven kinds, with and without fields, on pairs {x, -x} and on all states. Exact
values come from the definitions (energies, conditional laws, pivoted elimination) in mpmath with as many digits as the energies can hide,
and share no code with the package. Every public number is taken with its bound, and what stands behind them entry by entry: laws, energies,
rates. A refusal is no violation, but counted.

Two tables a kernel: violations, and the median of bound / true error of each quantity, of models with a gap above 1e-6 and below. A true
error below the rounding of the value itself counts as that rounding. Exit code 1 where a bound is violated.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from certified import chains, observables, spectra
from certified.exact import exactly
from certified.ledger import Ledger, report
from claims import ROOT  # noqa: F401 - the clone is found

import thermokernels as tk

MODELS = 1500
KERNELS = ("single-site", "two-block", "symmetrised-alternating", "alternating-visible", "alternating-hidden", "alternating")
SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 2), (1, 3), (3, 1), (2, 3), (3, 2), (1, 4)]


def couplings(draws: np.random.Generator) -> tuple[Any, Any, Any]:
    """W, b, c: fields in one model of six."""
    shape = (3, 3) if draws.random() < 0.02 else SHAPES[draws.integers(len(SHAPES))]
    scale = float(np.exp(draws.uniform(np.log(0.1), np.log(60))))
    kind = draws.integers(7)
    if kind == 0:
        W = scale * draws.normal(size=shape)
    elif kind == 1:  # pairs of spins that hardly see each other
        W = 10.0 ** draws.uniform(-12, -1) * scale * draws.uniform(-1, 1, size=shape)
        np.fill_diagonal(W, scale * draws.uniform(0.5, 1, size=min(shape)))
    elif kind == 2:  # the same number over and over, and none
        W = scale * draws.choice([-1.0, 0.0, 1.0], size=shape)
    elif kind == 3:  # nearly the same: nearly degenerate modes
        W = scale * draws.choice([-1.0, 1.0], size=shape) * (1 + 10.0 ** draws.uniform(-14, -2) * draws.normal(size=shape))
    elif kind == 4:  # tiny
        W = 10.0 ** draws.uniform(-15, -1) * draws.normal(size=shape)
    elif kind == 5:  # of very different sizes
        W = np.exp(draws.uniform(np.log(1e-3), np.log(60), size=shape)) * draws.choice([-1.0, 1.0], size=shape)
    else:  # two patterns
        left, right = draws.choice([-1.0, 1.0], size=(2, shape[0])), draws.choice([-1.0, 1.0], size=(2, shape[1]))
        W = scale * (0.5 * np.outer(left[0], right[0]) + 0.45 * np.outer(left[1], right[1]))
    W = np.clip(W, -60, 60)
    if draws.random() > 1 / 6 or sum(shape) > 4:
        return W, None, None
    return W, scale * 0.3 * draws.normal(size=shape[0]), scale * 0.3 * draws.normal(size=shape[1])


def examine(ledger: Ledger, case: int, kernel: str) -> None:
    """All of one model."""
    draws = np.random.default_rng([2, case])
    W, b, c = couplings(draws)
    pairs = b is None and draws.random() < 0.7
    p_data = draws.dirichlet(np.ones(2 ** len(W)))
    if (kernel, 1) in (("alternating-visible", W.shape[0]), ("alternating-hidden", W.shape[1])):
        pairs = False  # one pair would be a chain of one state
    model = exactly(W, b, c, kernel, pairs)
    chain = ledger.attempt("chain", lambda: tk.gibbs_chain(W, b, c, quotient=pairs if b is None else None, kernel=kernel))
    if chain is None:
        return
    if chain.reversible:
        spectra.examine_gap(ledger, case, chain, model)
    chains.examine_entries(ledger, case, chain, model, draws)
    if model.layer is None:
        observables.examine_windows(ledger, case, chain, model, p_data)
        chains.examine_landscape(ledger, case, chain, model, draws)
        observables.examine_divergence(ledger, case, chain, model, p_data)
    if not chain.reversible:
        observables.examine_alternating(ledger, case, chain, model, p_data)
        return
    if model.layer is None:
        observables.examine_variance_time(ledger, case, chain, model, p_data)
        spectra.examine_spectrum(ledger, case, chain, model)
    if kernel == "single-site" and pairs == (b is None):
        observables.examine_gradients(ledger, case, (W, b, c), chain, model, p_data)
    chains.examine_passages(ledger, case, chain, model, draws)
    observables.examine_functions(ledger, case, chain, model, draws)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog="Exit code 1 where a bound is violated.")
    parser.add_argument("--models", type=int, default=MODELS, help="random models for each kernel")
    parser.add_argument("--first", type=int, default=0, help="number of the first model")
    parser.add_argument("--kernel", choices=KERNELS, action="append", help="one of them only; may be given again")
    options = parser.parse_args(arguments)
    violated = 0
    for kernel in options.kernel or KERNELS:
        ledger = Ledger()
        for case in range(options.first, options.first + options.models):
            examine(ledger, case, kernel)
        report(kernel, ledger, options.models)
        violated += len(ledger.violations)
    print(f"\n{'no bound is violated' if not violated else f'{violated} bounds are violated'}")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
