"""Moments of window sums of a chain with exchangeable sites, from a start that no exchange changes.

The recursion of :mod:`thermokernels.quantities.windows.window_moments`, part by part (:mod:`thermokernels.model.exchangeable`): of a part A
g the chain with killing gives h_s, and E[A^2 | k] = omega turns the product into a function of the numbers of -1 spins, on which the rest
of the recursion lives:

    h_s = R (g + h_(s+1)),   R = P' - killing,      G_s = sum over parts of multiplicity omega (g^2 + 2 g h_s) + P G_(s+1).
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import ModelTooLargeError
from thermokernels.model.exchangeable import ExchangeableChain, Sector
from thermokernels.quantities.windows.window_moments import Moments

# Multiply-adds of a recursion that is begun: some hours. One record costs no less than RECORD, in calls of NumPy.
MOST_WORK = 2**42
RECORD = 2**17


def require_time(chain: ExchangeableChain, records: int) -> None:
    """ModelTooLargeError where a recursion over so many records would take many hours; the message says what."""
    lumped = chain.lumped
    n_classes, n_others = lumped.couplings.shape
    of_record = lumped.n_states * (3 * n_classes * n_others + 1) * 4 * (n_classes + n_others)
    work = records * max(of_record, RECORD)
    if work > MOST_WORK:
        raise ModelTooLargeError(
            f"a recursion over {records} records of {lumped.n_states} lumped states would take the time of {work:.2g} multiply-adds; use "
            "shorter windows and burn-ins, or the stationary start, whose windows may have any length"
        )


def by_recursion(chain: ExchangeableChain, start: Floats, window: int, burn_in: int) -> Moments:
    """E S_a of every class, times the root of its size, and sum_a E S_a^2; ``start`` (n_states,), window and burn-in in records."""
    parts = [_Part(chain, sector) for sector in chain.sectors()]
    even = parts[0]  # the functions of the numbers of -1 spins, whose sums have a mean
    sums = np.zeros((chain.n_states, even.functions.shape[1] + 1))
    for _ in range(window):
        sums = chain.lumped.apply(sums)
        sums[:, :-1] += even.functions
        for part in parts:
            sums[:, -1] += part.advance()
    for _ in range(burn_in):
        sums = chain.lumped.apply(sums)
    moments = start @ sums
    return Moments(moments[:-1], float(moments[-1]))


class _Part:
    """One part of v_i h_j, and h_s of it."""

    def __init__(self, chain: ExchangeableChain, sector: Sector) -> None:
        self.chain = sector.chain
        functions = sector.functions
        if not sector.chain.killing:
            functions = functions - (functions @ sector.chain.law)[:, None]
        self.functions = np.ascontiguousarray((np.sqrt(sector.multiplicities)[:, None] * functions).T)
        self.later = np.zeros_like(self.functions)
        self.started = False
        # where these states are among those of all numbers of -1 spins, and omega there
        hidden, visible = sector.chain.counts
        shifts = (np.arange(len(hidden)) == sector.hidden), (np.arange(len(visible)) == sector.visible)
        lumped = chain.lumped
        rows = _numbers(hidden + shifts[0][:, None], lumped.hidden_sizes)
        columns = _numbers(visible + shifts[1][:, None], lumped.visible_sizes)
        self.places = np.add.outer(rows * lumped.shape[1], columns).ravel()
        self.omega = chain.omega(sector.visible, sector.hidden)[self.places]
        self.n_states = chain.n_states

    def advance(self) -> Floats:
        """omega (g^2 + 2 g h_s) of this record, (n_states,); h of the one before it is then next."""
        if self.started:
            self.later = self.chain.apply(self.functions + self.later)
        self.started = True
        result = np.zeros(self.n_states)
        result[self.places] = self.omega * np.einsum("xa,xa->x", self.functions, self.functions + 2 * self.later)
        return result


def _numbers(counts: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    result: np.ndarray = np.ravel_multi_index(tuple(counts), tuple(n + 1 for n in sizes), order="F")
    return result


def start_law(chain: ExchangeableChain, counts: Floats, start: str) -> Floats:
    """The law of the first state, (n_states,): "stationary", "uniform", or "data" (v from the data, h given v)."""
    lumped = chain.lumped
    if start == "stationary":
        return lumped.law
    if start == "uniform":
        free = type(lumped)(
            lumped.visible_sizes,
            lumped.hidden_sizes,
            np.zeros_like(lumped.couplings),
            np.zeros_like(lumped.b),
            np.zeros_like(lumped.c),
            lumped.n_spins,
        )
        return free.law
    logarithms = lumped.log_law.reshape(lumped.shape)
    logarithms = logarithms - np.logaddexp.reduce(logarithms, axis=0)
    return np.ascontiguousarray((np.exp(logarithms) * counts).ravel())


def positive_phase(chain: ExchangeableChain, counts: Floats, hidden: str) -> float:
    """sum_ij of the variance over the data of E[f_ij | v], or of f_ij with h sampled given v."""
    lumped = chain.lumped
    sizes = np.array(lumped.visible_sizes)[:, None]
    means = np.tanh(lumped.fields[0])  # (D, V)
    expected = (lumped.magnetisations[1] / sizes * counts) @ means.T
    of_hidden = np.array(lumped.hidden_sizes)
    squares = float(counts @ (of_hidden @ means**2)) * chain.n_visible if hidden == "expected" else float(chain.n_visible * chain.n_hidden)
    return max(squares - float((chain.pair_sizes * expected**2).sum()), 0.0)
