"""What is left of T_O, the gap and hitting times as couplings grow: each method against mpmath, and the bound that it carries.

Usage: python benchmarks/accuracy.py [--scales 1 2 5 10 20 40 60]

Three pairs of spins, coupled by 0.8 to 1 times the scale and with each other by up to 0.5. A dash: the method gives no number there.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import mpmath as mp
import numpy as np
from machine import print_machine

import adjoints
import thermokernels as tk
from adjoints import bounds
from thermokernels.quantities import first_passage, spectral_gap
from thermokernels.quantities.variance_time import variance_time
from thermokernels.solvers.solve import Solve

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "validation"))
from test_certificates import exactly

Found = tuple[float, float | None]


def couplings(scale: float) -> np.ndarray:
    draws = np.random.default_rng(0)
    return np.clip(scale * np.diag([0.8, 0.9, 1.0]) + draws.uniform(-0.5, 0.5, (3, 3)), -60, 60)


def naive_variance_time(chain: tk.GibbsChain) -> Found:
    """A dense solve with I - P + 1 pi'."""
    spins = chain.spins().astype(float)
    products = (spins[:, :3, None] * spins[:, None, 3:]).reshape(chain.n_states, -1)
    centred = products - chain.law @ products
    responses = np.linalg.solve(np.eye(chain.n_states) - chain.transition_matrix() + chain.law, centred)
    return float(np.einsum("x,xa,xa->", chain.law, centred, responses)), None


def naive_times(chain: tk.GibbsChain, target: int) -> Found:
    """A dense solve with I - P off the target: the longest time."""
    free = np.arange(chain.n_states) != target
    matrix = (np.eye(chain.n_states) - chain.transition_matrix())[np.ix_(free, free)]
    return float(np.linalg.solve(matrix, np.ones(free.sum())).max()), None


def deeptime_times(chain: tk.GibbsChain, target: int) -> Found:
    from deeptime.markov.tools.analysis import mfpt

    return float(np.max(mfpt(chain.transition_matrix(), target))), None


def exact_gap(chain: tk.GibbsChain, model: object) -> mp.mpf:
    """By bisection on the number of eigenvalues below, from the interval of the certificate."""
    start = spectral_gap.solve_spectral_gap(chain)
    low, high = mp.mpf(start.value - start.bound), mp.mpf(start.value + start.bound)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if model.modes_below(middle) == 1 else (low, middle)
    return low


def described(compute: Callable[[], Found], exact: mp.mpf) -> str:
    """True relative error / relative bound."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, bound = compute()
    except (tk.NumericalError, np.linalg.LinAlgError, ValueError):
        return "-"
    except ImportError:
        return "not installed"
    if not np.isfinite(value):
        return "not finite"
    error = float(abs(mp.mpf(value) / exact - 1))
    return f"{error:.0e}" + ("" if bound is None else f" / {float(mp.mpf(bound) / exact):.0e}")


def gradient_errors(W: np.ndarray, method: str, exact: list[list[mp.mpf]]) -> str:
    """The largest error of an entry of dT_O / dW and its bound, relative to the largest entry."""
    try:
        time = variance_time(tk.gibbs_chain(W), Solve(method))
        _, gradient = adjoints.observable_variance_time(W, method=method)
        bound = bounds.variance_time_gradient_bound(time)
    except tk.NumericalError:
        return "-"
    size = max(abs(e) for row in exact for e in row)
    error = max(abs(mp.mpf(float(v)) - e) for row, line in zip(gradient, exact, strict=True) for v, e in zip(row, line, strict=True))
    return f"{float(error / size):.0e} / {float(bound / size):.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 2, 5, 10, 20, 40, 60])
    print_machine()
    rows = []
    for scale in parser.parse_args().scales:
        W = couplings(scale)
        chain, model = tk.gibbs_chain(W), exactly(W)
        t_obs, gradient = model.variance_time()
        target = int(chain.energy.argmin())
        longest = max(model.hitting_times(np.arange(chain.n_states) == target))
        slowest = exact_gap(chain, model)

        def of_time(method: str, chain: tk.GibbsChain = chain) -> Found:
            time = variance_time(chain, Solve(method))
            return time.value, time.bound

        def of_passage(method: str, chain: tk.GibbsChain = chain, target: int = target) -> Found:
            hitting = first_passage.solve_hitting_times(chain, [target], method)
            return float(hitting.times.max()), hitting.bound * float(hitting.times.max())

        def of_gap(chain: tk.GibbsChain = chain) -> Found:
            found = spectral_gap.solve_spectral_gap(chain)
            return found.value, found.bound

        head = (f"{scale:g}", f"{float(slowest):.1e}", mp.nstr(t_obs, 2))
        rows.append((*head, "T_O", "numpy", described(lambda c=chain: naive_variance_time(c), t_obs)))
        rows += [(*head, "T_O", m, described(lambda m=m: of_time(m), t_obs)) for m in ("cholesky", "cg", "reduction", "auto")]
        rows += [(*head, "dT_O", m, gradient_errors(W, m, gradient)) for m in ("cholesky", "cg", "reduction", "auto")]
        rows.append((*head, "passage", "numpy", described(lambda c=chain, t=target: naive_times(c, t), longest)))
        rows.append((*head, "passage", "deeptime", described(lambda c=chain, t=target: deeptime_times(c, t), longest)))
        rows += [(*head, "passage", m, described(lambda m=m: of_passage(m), longest)) for m in ("symmetrised", "reduction", "auto")]
        rows.append((*head, "gap", "auto", described(of_gap, slowest)))
    header = ("scale", "gap", "T_O", "quantity", "method", "relative error / bound")
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
