"""Claim: what a sampler delivers on planted models from 8 to 200 spins, and that slow mixing sets in where mean-field theory puts it.

Models of N = 2m spins with one pattern pair, or two orthogonal ones, W = (beta/m) sum_mu xi^mu xi^mu', lumped exactly; the data are those
of a model whose couplings are a tenth larger. Per row, in sweeps: T_O of single-site sampling and of the alternating scan, V, the signal
|g|^2, Q_struct and the Q_op of 100 sweeps from equilibrium, A6 (100 sweeps over the longest tau of a product) and A7 (gap of what is seen
outside of the cluster), the window whose Q_op is 1, and the relaxation time 1/gap of what the products see, which with two patterns is that
between them.

Two orthogonal patterns are two independent blocks of m spins with one pattern each, and going from one pattern to the other is turning one
block over. Mean-field theory of a block: with m* = tanh(beta m*), s the entropy of a spin, the barrier per spin of the whole model is

    kappa = (beta m*^2 + 2 s(m*) - 2 log 2) / 4    above beta = 1, and 0 below.

Judged: N = 8 against the full chain; the growth of log(time) per spin, at the largest sizes, against kappa; a power of N where it is 0;
passages from one pattern to the other by elimination against the relaxation time. ``--pictures DIR`` draws the tables; ``--keep DIR`` keeps
every row, so that a run that was interrupted goes on with them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from claims import Row, conclude
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import xlogy

import thermokernels as tk
from thermokernels.common.atomic_file import replacing
from thermokernels.quantities.exchangeable import exchangeable_sums
from thermokernels_app.experiment.records.environment import source_hash

WINDOW = 100.0
WARMER = 1.1

# N by beta for two patterns: at low temperature up to where float64 resolves the gap.
SIZES = {0.8: (8, 16, 24, 40, 64, 96, 120, 200), 1.0: (8, 16, 24, 40, 64, 96, 120, 200), 1.2: (8, 16, 24, 40, 64, 96, 120, 160, 200)}
SIZES |= {1.5: (8, 16, 24, 40, 64, 80, 96), 2.0: (8, 16, 24, 32, 40, 48, 64), 3.0: (8, 16, 24, 32)}
ONE_PATTERN = {1.2: (8, 24, 64, 120, 200, 400)}
MOST_ELIMINATED = 24
Floats = NDArray[np.float64]


def couplings(n_spins: int, beta: float, n_patterns: int) -> Floats:
    """W of the planted model; the second pattern differs from the first at the second half of the sites of a layer."""
    m = n_spins // 2
    xi = np.ones((n_patterns, m))
    xi[1:, m // 2 :] = -1.0
    return beta / m * (xi.T @ xi)


def barrier(beta: float) -> float:
    """kappa, nats per spin of the model of two patterns."""
    if beta <= 1.0:
        return 0.0
    m = brentq(lambda x: math.tanh(beta * x) - x, 1e-3, 1.0)
    entropy = -sum(float(xlogy(p, p)) for p in ((1 + m) / 2, (1 - m) / 2))
    return (beta * m * m + 2 * entropy - 2 * math.log(2)) / 4


@dataclass(frozen=True)
class Size:
    """One model; times in sweeps, but for ``seconds`` of processor time that it took."""

    n_patterns: int
    beta: float
    n_spins: int
    n_states: int
    t_obs: float
    t_alternating: float | None
    asymptotic_variance: float
    signal: float
    q_struct: float
    q_op: float
    a6: float
    a7: float | None
    window_of_one: float
    relaxation: float
    passage: float | None
    seconds: float

    def line(self) -> str:
        cells = (self.n_patterns, f"{self.beta:g}", self.n_spins, self.n_states, *map(_number, (self.t_obs, self.t_alternating)))
        cells += tuple(map(_number, (self.asymptotic_variance, self.signal, self.q_struct, self.q_op, self.a6, self.a7)))
        cells += tuple(map(_number, (self.window_of_one, self.relaxation, self.passage)))
        return " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, NAMES, strict=True)) + f" {self.seconds:7.1f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


NAMES = (("patterns", 8), ("beta", 5), ("N", 5), ("states", 9), ("T_O", 10), ("of scan", 9), ("V", 10), ("|g|^2", 9), ("Q_struct", 10))
NAMES += (("Q_op", 9), ("A6", 9), ("A7", 7), ("K at Q=1", 9), ("1/gap", 10), ("passage", 10))
HEADER = " ".join(f"{name:>{width}}" for name, width in NAMES)


def measure(n_spins: int, beta: float, n_patterns: int) -> Size:
    start = time.process_time()
    chain = tk.exchangeable_chain(couplings(n_spins, beta, n_patterns))
    data = tk.exchangeable_chain(couplings(n_spins, WARMER * beta, n_patterns))
    law = data.law.reshape(data.lumped.shape).sum(axis=0)
    q = tk.exchangeable_q(chain, law, WINDOW)
    spectrum = tk.spectral_measure(chain)
    of_a_pair = q.time.by_class / chain.pair_sizes
    tau = 2 * of_a_pair / (1 - chain.means**2) - 1
    sweep_gaps = 1 - np.maximum(spectrum.nodes, 0.0) ** n_spins
    seen = sweep_gaps[(spectrum.weights > 1e-12 * spectrum.weights.sum())]
    outside = seen[seen > 3 * seen.min()]

    def log_q(log_sweeps: float) -> float:
        return math.log(q.signal / tk.window_variance(spectrum, round(math.exp(log_sweeps) * n_spins)))

    low, high = math.log(1 / n_spins), math.log(1e3 * q.asymptotic_variance / q.signal + 10)
    one = 1 / n_spins if log_q(low) >= 0 else math.exp(brentq(log_q, low, high, xtol=1e-4))
    return Size(
        n_patterns,
        beta,
        n_spins,
        chain.n_states,
        q.t_obs / n_spins,
        of_the_scan(chain),
        q.asymptotic_variance / n_spins,
        q.signal,
        q.value,
        math.exp(log_q(math.log(WINDOW))),
        WINDOW * n_spins / float(tau.max()),
        float(outside.min()) if outside.size else None,
        one,
        1 / (spectrum.relevant_gap * n_spins),
        passage(chain) if n_patterns == 2 and beta > 1 and n_spins <= MOST_ELIMINATED else None,
        time.process_time() - start,
    )


def kept(folder: Path | None, n_spins: int, beta: float, n_patterns: int) -> Size:
    """A row of an earlier run of this program in ``folder``, or else measured now and kept there."""
    if folder is None:
        return measure(n_spins, beta, n_patterns)
    file, program = folder / f"{n_patterns}-{beta:g}-{n_spins}.json", source_hash()
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.pop("program") == program:
            return Size(**found)
    row = measure(n_spins, beta, n_patterns)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        stream.write(json.dumps(asdict(row) | {"program": program}).encode())
    return row


def of_the_scan(chain: tk.ExchangeableChain) -> float | None:
    """T_O of the alternating scan, None where float64 does not resolve it."""
    try:
        return tk.exchangeable_blocks(chain).value
    except tk.UnresolvedError:
        return None


def passage(chain: tk.ExchangeableChain) -> float:
    """Mean sweeps from the most probable state of one pattern, or its mirror image, to that of the other."""
    shape = tuple(n + 1 for n in (*chain.lumped.visible_sizes, *chain.lumped.hidden_sizes))
    best = list(np.unravel_index(int(chain.law.argmax()), shape, order="F"))
    other = [shape[c] - 1 - k if c % 2 else k for c, k in enumerate(best)]  # the second class of each layer turned over
    wells = []
    for well in (best, other):
        number = int(np.ravel_multi_index([int(k) for k in well], shape, order="F"))
        wells.append([number, chain.n_states - 1 - number])
    return tk.mean_first_passage(chain, wells[0], wells[1]) / chain.n_spins


def growth(rows: list[Size]) -> float:
    """Nats per spin by which the relaxation time grows between the two largest sizes."""
    return math.log(rows[-1].relaxation / rows[-2].relaxation) / (rows[-1].n_spins - rows[-2].n_spins)


def power(rows: list[Size]) -> float:
    """The power of N with which it grows there."""
    return math.log(rows[-1].relaxation / rows[-2].relaxation) / math.log(rows[-1].n_spins / rows[-2].n_spins)


def of_the_full_chain() -> Row:
    """T_O, V and the relevant gap of N = 8, lumped and on all states."""
    worst = 0.0
    for n_patterns, beta in ((1, 1.2), (2, 0.8), (2, 1.2), (2, 3.0)):
        W = couplings(8, beta, n_patterns)
        lumped, full = tk.exchangeable_chain(W), tk.gibbs_chain(W)
        for one in (tk.observable_variance_time, tk.asymptotic_variance, lambda c: tk.spectral_measure(c).relevant_gap):
            worst = max(worst, abs(one(lumped) / one(full) - 1))
    return Row("N = 8: T_O, V and relevant gap of the full chain", f"{worst:.1e} apart at most", worst < 1e-9)


def bounds(rows: list[Size]) -> Row:
    """The certificate of T_O at the largest size that is quick."""
    largest = max((row.n_spins for row in rows if row.n_patterns == 2 and row.n_spins <= 64), default=8)
    chain = tk.exchangeable_chain(couplings(largest, 1.2, 2))
    of = exchangeable_sums.variance_time(chain)
    return Row(
        f"N = {largest}, two patterns, beta 1.2: proven bound of T_O", f"{of.bound / of.value:.1e} of it", of.bound < 1e-8 * of.value
    )


def judged(rows: list[Size]) -> list[Row]:
    found = [of_the_full_chain(), bounds(rows)]
    for beta in sorted({row.beta for row in rows if row.n_patterns == 2}):
        of_beta = [row for row in rows if (row.n_patterns, row.beta) == (2, beta)]
        if len(of_beta) < 2:
            continue
        name, kappa = f"beta {beta:g}, N = {of_beta[-2].n_spins} to {of_beta[-1].n_spins}", barrier(beta)
        if kappa == 0.0:
            found.append(Row(f"{name}: a power of N", f"{power(of_beta):.2f}", power(of_beta) < 1.0))
        elif kappa * of_beta[-1].n_spins < 5.0:  # the barrier is no more than a few nats: too early for an exponent
            found.append(Row(f"{name}: nats per spin, mean field {kappa:.4f}", f"{growth(of_beta):.4f}", None))
        else:
            near = abs(growth(of_beta) / kappa - 1) < 0.15
            found.append(Row(f"{name}: nats per spin, mean field {kappa:.4f}", f"{growth(of_beta):.4f}", near))
        slow = [row for row in of_beta if row.passage and kappa * row.n_spins > 5.0]
        for row in slow[-1:]:  # two equal wells: each is left at half the rate of the relaxation
            ratio = row.passage / (2 * row.relaxation) if row.passage else math.nan
            found.append(Row(f"beta {beta:g}, N = {row.n_spins}: passage over twice 1/gap", f"{ratio:.4f}", 0.9 < ratio < 1.1))
    return found


def draw(rows: list[Size], folder: Path) -> None:
    """Q_op and Q_struct, and the relaxation time, along N."""
    from matplotlib.figure import Figure

    from thermokernels.plot.style import COLOURS, DASHES, MARKERS, WIDTH, style
    from thermokernels_app.report.style import as_file

    with style():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for n, beta in enumerate(sorted({row.beta for row in rows if row.n_patterns == 2})):
            of_beta = [row for row in rows if (row.n_patterns, row.beta) == (2, beta)]
            sizes, look = [row.n_spins for row in of_beta], {"color": COLOURS[n % 5], "marker": MARKERS[n % 5], "markersize": 4}
            fill = "none" if n >= len(COLOURS) else None
            left.plot(sizes, [row.q_op for row in of_beta], linestyle="-", fillstyle=fill or "full", **look, label=f"β = {beta:g}")
            left.plot(sizes, [row.q_struct for row in of_beta], linestyle=DASHES[3], color=COLOURS[n % 5], linewidth=0.9)
            right.plot(sizes, [row.relaxation for row in of_beta], linestyle="-", fillstyle=fill or "full", **look)
            last, kappa = of_beta[-1], barrier(beta)
            if kappa > 0:
                ends = np.array([sizes[-1] / 2, sizes[-1]])
                right.plot(ends, last.relaxation * np.exp(kappa * (ends - sizes[-1])), color="black", linestyle=DASHES[1], linewidth=0.8)
        for axes in (left, right):
            axes.set_yscale("log")
            axes.set_xlabel("N spins, two patterns")
        left.set_ylabel("Q of 100 sweeps: Q_op, and dotted Q_struct")
        right.set_ylabel("1/gap of the products (sweeps); dashed: mean field")
        left.legend(fontsize=7.5)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaling.svg").write_bytes(as_file(figure, "svg"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=96, help="the most spins of a model (the page: 200)")
    parser.add_argument("--beta", type=float, nargs="*", help="only these inverse temperatures")
    parser.add_argument("--pictures", type=Path, help="folder of scaling.svg")
    parser.add_argument("--keep", type=Path, help="folder of the rows: those that are there are not measured again")
    options = parser.parse_args()
    rows = []
    print(HEADER)
    for n_patterns, table in ((1, ONE_PATTERN), (2, SIZES)):
        for beta, sizes in ((beta, sizes) for beta, sizes in table.items() if options.beta is None or beta in options.beta):
            for n_spins in (size for size in sizes if size <= options.largest):
                rows.append(kept(options.keep, n_spins, beta, n_patterns))
                print(rows[-1].line(), flush=True)
    print()
    code = conclude(judged(rows))
    if options.pictures:
        draw(rows, options.pictures)
    return code


if __name__ == "__main__":
    sys.exit(main())
