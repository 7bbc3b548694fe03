"""The energy landscape: which basins of the single-flip graph merge, in which order, and over which barriers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import memory, tolerances
from thermokernels.common.arrays import Floats
from thermokernels.common.digits import certified
from thermokernels.common.error_state import default_error_state
from thermokernels.common.results import UNPROVEN, Line, Result, html_table
from thermokernels.model.chain import GibbsChain, as_chain
from thermokernels.model.exchangeable import ExchangeableChain
from thermokernels.model.rounding import energy_error
from thermokernels.quantities import flooding
from thermokernels.solvers.lumped.lumped_gap_bound import all_strides, move_rates

Integers = NDArray[np.int32]
Interval = tuple[int, int]

# Six components have 720 orders; a saddle that joins more is given this many random ones.
MAX_ORDERS = 720
MAX_ENUMERATED = 6

# Events that a notebook shows.
SHOWN_EVENTS = 20


@dataclass(frozen=True, eq=False, repr=False)
class MergeEvent(Result):
    """One basin joins a deeper one at a saddle. Compared by identity: equal events of several orderings are the same object.

    Attributes
    ----------
    saddle_energy, dying_minimum, surviving_minimum : float
        Energies of the saddle and of the lowest states of the two basins.
    multiplicity : int
        How many basins the saddle joins (2 in a generic landscape).
    dying_mass, surviving_mass : float
        pi of the two basins.
    """

    _lines = (
        Line("saddle_energy", "saddle_energy"),
        Line("barrier", "barrier"),
        Line("dying_minimum", "dying_minimum"),
        Line("surviving_minimum", "surviving_minimum"),
        Line("dying_mass", "dying_mass"),
        Line("surviving_mass", "surviving_mass"),
    )
    _facts = ("multiplicity",)

    saddle_energy: float
    multiplicity: int
    dying_minimum: float
    surviving_minimum: float
    dying_mass: float
    surviving_mass: float
    _nodes: Integers
    _dying: tuple[Interval, ...]
    _surviving: tuple[Interval, ...]

    @property
    def barrier(self) -> float:
        """Saddle energy minus the lowest energy of the dying basin."""
        return self.saddle_energy - self.dying_minimum

    @property
    def dying(self) -> NDArray[np.bool_]:
        """Mask (n_states,) of the shallower basin: its states below the saddle. Computed anew at every access."""
        return self._mask(self._dying)

    @property
    def surviving(self) -> NDArray[np.bool_]:
        """Mask (n_states,) of the deeper basin: its states below the saddle. Computed anew at every access."""
        return self._mask(self._surviving)

    @property
    def _key(self) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
        return self._dying, self._surviving

    def _mask(self, intervals: tuple[Interval, ...]) -> NDArray[np.bool_]:
        chosen = np.zeros(int(self._nodes.max()) + 1, dtype=np.bool_)
        for start, stop in intervals:
            chosen[start:stop] = True
        return chosen[self._nodes]


@dataclass(frozen=True, eq=False, repr=False)
class MergeTree(Result):
    """Which basin merges with which, and at what energy; made by :func:`merge_tree`.

    The arrays describe basins (subtrees of flooding nodes), ``rank`` their seniority: 0 is the deepest. ``barrier_error`` bounds the
    error of every barrier: energies are right to some e, a pass (the least maximum over all paths) and a minimum move by no more than that
    (stability of persistence: Cohen-Steiner, Edelsbrunner and Harer, Discrete Comput. Geom. 37 (2007) 103), and a level that stands for
    energies that differ by rounding adds its width, at either end.
    """

    _facts = (
        "n_minima",
        "n_multiway_saddles",
        "barrier_error",
        "events",
    )

    level_energy: Floats
    level: Integers
    parent: Integers
    start: Integers
    stop: Integers
    mass: Floats
    birth: Integers
    rank: NDArray[np.int64]
    nodes: Integers
    barrier_error: float

    @cached_property
    def _saddles(self) -> list[list[int]]:
        """The basins that each saddle joins, elder first and then from the shallowest up; saddles in order of energy."""
        basins = np.flatnonzero((self.parent >= 0) & (self.level < self.level[self.parent]))
        basins = basins[np.lexsort((-self.rank[basins], self.parent[basins]))]
        cuts = np.flatnonzero(np.diff(self.parent[basins])) + 1
        joined = [group.tolist() for group in np.split(basins, cuts) if group.size > 1]
        joined.sort(key=lambda group: (self.level[self.parent[group[0]]], self.rank[group[-1]]))
        return [[group[-1], *group[:-1]] for group in joined]

    @property
    @default_error_state
    def n_minima(self) -> int:
        """Number of local minima (a plateau without a lower neighbour is one)."""
        return 1 + sum(len(group) - 1 for group in self._saddles)

    @property
    @default_error_state
    def n_multiway_saddles(self) -> int:
        """Number of saddles that join three or more basins at once."""
        return sum(len(group) > 2 for group in self._saddles)

    @cached_property
    def events(self) -> tuple[MergeEvent, ...]:
        """All n_minima - 1 events in order of saddle energy; at a multiway saddle the basins die from the shallowest up."""
        return tuple(event for part in self._default for event in part)

    def by_mass(self) -> list[MergeEvent]:
        """The events by falling probability of the basin that dies: the numbers of basins in a diagnosis count them from one."""
        return sorted(self.events, key=lambda event: -event.dying_mass)

    @cached_property
    def _default(self) -> list[list[MergeEvent]]:
        return [self._fold(group) for group in self._saddles]

    @default_error_state
    def orderings(self, seed: int = 0, exhaustive: int = MAX_ENUMERATED, draws: int = MAX_ORDERS) -> Iterator[tuple[MergeEvent, ...]]:
        """The alternative event lists of the multiway rider, one multiway saddle reordered at a time.

        The basins of a saddle join one by one in the order of a permutation, and at every joining the elder rule says which side dies:
        the shallower, be it the newcomer or what has joined so far. Up to ``exhaustive`` basins all permutations are taken; above, draws of
        ``Generator(PCG64(SeedSequence([seed, k])))`` with k the saddle's position in order of energy. Lists that repeat an
        earlier one (a permutation with its first two basins exchanged, the default order) are left out.

        Parameters
        ----------
        seed : int
            Nonnegative seed of the random orders.
        exhaustive, draws : int
            Multiplicity up to which every order is taken (6), and how many random ones are drawn above it (720).

        Yields
        ------
        tuple of MergeEvent, each a complete list like :attr:`events`; nothing where no saddle joins three basins or more.
        """
        default = self._default
        for k, group in enumerate(self._saddles):
            if len(group) < 3:
                continue
            known = {event._key: event for event in default[k]}
            seen = {tuple(default[k])}
            for order in _orders(group, seed, k, exhaustive, draws):
                events = tuple(known.setdefault(event._key, event) for event in self._fold(order))
                if events not in seen:
                    seen.add(events)
                    yield tuple(event for part in (*default[:k], events, *default[k + 1 :]) for event in part)

    def _fold(self, order: Sequence[int]) -> list[MergeEvent]:
        """The events of one saddle whose basins join one by one in the given order."""
        saddle_energy = float(self.level_energy[self.level[self.parent[order[0]]]])
        events = []
        joined, elder = [order[0]], order[0]
        for newcomer in order[1:]:
            sides = [([newcomer], newcomer), (joined, elder)]
            (dying, younger), (surviving, elder) = sorted(sides, key=lambda side: -self.rank[side[1]])
            events.append(
                MergeEvent(
                    saddle_energy=saddle_energy,
                    multiplicity=len(order),
                    dying_minimum=float(self.level_energy[self.birth[younger]]),
                    surviving_minimum=float(self.level_energy[self.birth[elder]]),
                    dying_mass=float(self.mass[dying].sum()),
                    surviving_mass=float(self.mass[surviving].sum()),
                    _nodes=self.nodes,
                    _dying=self._intervals(dying),
                    _surviving=self._intervals(surviving),
                )
            )
            joined = [*joined, newcomer]
        return events

    def _intervals(self, basins: Sequence[int]) -> tuple[Interval, ...]:
        return tuple(sorted((int(self.start[basin]), int(self.stop[basin])) for basin in basins))

    def _columns(self) -> tuple[dict[str, Any], str]:
        names = [line.attribute for line in MergeEvent._lines]
        events = {name: [getattr(event, name) for event in self.events] for name in names}
        return {"event": range(len(self.events)), **events, "multiplicity": [event.multiplicity for event in self.events]}, "event"

    def _repr_html_(self) -> str:
        """The events with the highest barriers."""
        highest = sorted(self.events, key=lambda event: -event.barrier)[:SHOWN_EVENTS]
        rows = [
            [
                certified(event.barrier, self.barrier_error),
                certified(event.saddle_energy, self.barrier_error),
                *(certified(mass, None, UNPROVEN) for mass in (event.dying_mass, event.surviving_mass)),
                str(event.multiplicity),
            ]
            for event in highest
        ]
        return f"<p>{escape(repr(self))}</p>" + html_table(("barrier", "saddle", "pi(basin)", "pi(deeper)", "basins at the saddle"), rows)

    def __repr__(self) -> str:
        return f"MergeTree({self.n_minima} minima, {self.n_multiway_saddles} multiway saddles)"


@default_error_state
def merge_tree(chain: GibbsChain | ExchangeableChain) -> MergeTree:
    """The merge tree (disconnectivity graph) of E on the graph of single flips, by the elder rule.

    For rising u the connected components of {x : E(x) < u} grow, and merge at saddles; where q of them meet at one level, q - 1 die:

        barrier of an event = E_saddle - min_A E,   A the dying basin, A and B as they were strictly below the saddle.

    Energies that differ by less than 1e-12 of the energy range (chained) are one level, flooded at once, so a plateau is one saddle
    and the order of states has no say. The deeper basin survives; of equally deep ones the more probable, then the one with
    more states, and only between basins that agree in all three the one with the least state number.

    Parameters
    ----------
    chain : GibbsChain or ExchangeableChain
        Of any kernel, on the full space or the quotient. Of an exchangeable chain the landscape is that of the free energies -log pi of the
        numbers of -1 spins, and neighbours differ by one spin. Energies are dimensionless (the temperature is absorbed).

    Returns
    -------
    MergeTree
        ``events`` (tuple of MergeEvent in order of saddle energy), ``n_minima``, ``n_multiway_saddles``, ``orderings()``,
        ``barrier_error`` (bounds the error of every barrier).

    Raises
    ------
    ModelTooLargeError
        The working arrays do not fit into memory.

    Notes
    -----
    Union-find over the basins; after sorting, near-linear in n_states * N. Zero-dimensional persistence with names: Edelsbrunner and
    Harer, Computational Topology (2010), section VII.1; Becker and Karplus, J. Chem. Phys. 106 (1997) 1495.

    Examples
    --------
    Two independent pairs of spins, as pairs {x, -x}: turning the first pair over is a second minimum, behind its own coupling.

    >>> import thermokernels as tk
    >>> (event,) = merge_tree(tk.gibbs_chain([[1.0, 0.0], [0.0, 2.0]])).events
    >>> event.saddle_energy, event.barrier, event.dying.nonzero()[0].tolist(), event.surviving.nonzero()[0].tolist()
    (-1.0, 2.0, [5], [0])
    """
    if isinstance(chain, ExchangeableChain):
        return _tree(chain.free_energy, chain.law, _moves(chain), chain.lumped.law_error)
    chain = as_chain(chain)
    chain.require_both_layers("merge_tree, whose steps are flips of single spins,")
    return _tree(chain.energy, chain.law, chain.flip_masks[None], energy_error(chain))


def _moves(chain: ExchangeableChain) -> NDArray[np.int64]:
    """(n_states, 2 classes): the number of a state, exclusive or that of each neighbour; 0 where a class has no spin left to turn."""
    classes = sum(chain.lumped.couplings.shape)
    memory.require(64 * classes * chain.n_states, f"the neighbours of {chain.n_states} states", "use fewer spins or patterns")
    states, moves = np.arange(chain.n_states), []
    for rows, sign in zip(move_rates(chain.lumped), (1, -1), strict=True):
        for rates, stride in zip(rows, all_strides(chain.lumped), strict=True):
            moves.append(np.where(rates > 0, states ^ (states + sign * stride), 0))
    return np.ascontiguousarray(np.array(moves).T)


def _tree(energy: Floats, law: Floats, flips: NDArray[np.int64], error: float) -> MergeTree:
    """The merge tree of energies that are right to ``error``, on the graph whose edges ``flips`` are."""
    n_states = energy.size
    memory.require(56 * n_states, f"the merge tree of {n_states} states", "use fewer spins: each one less halves it")
    energy_range = float(np.ptp(energy))
    order = np.argsort(energy, kind="stable")
    rising = energy[order]
    rises = np.flatnonzero(np.diff(rising) > tolerances.ENERGY_TIE * energy_range) + 1
    level_starts = np.concatenate(([0], rises, [n_states]))
    nodes, level, stack = np.empty((3, n_states), dtype=np.int32)
    parent, top = np.full(n_states, flooding.NONE, dtype=np.int32), np.arange(n_states, dtype=np.int32)
    n_nodes = flooding._flood(order, level_starts, flips, nodes, level, parent, top, stack)

    level, parent = level[:n_nodes].copy(), parent[:n_nodes].copy()
    size, lowest, birth, start, stop = np.empty((5, n_nodes), dtype=np.int32)
    mass = np.empty(n_nodes)
    flooding._sum_subtrees(nodes, law, level, parent, size, mass, lowest, birth)
    flooding._number_subtrees(level, parent, start, stop)
    rank = np.empty(n_nodes, dtype=np.int64)
    rank[np.lexsort((lowest, -size, _classes_of_mass(mass), birth))] = np.arange(n_nodes)
    return MergeTree(
        level_energy=rising[level_starts[:-1]],
        level=level,
        parent=parent,
        start=start,
        stop=stop,
        mass=mass,
        birth=birth,
        rank=rank,
        nodes=start[nodes],
        barrier_error=2 * (error + float((rising[level_starts[1:] - 1] - rising[level_starts[:-1]]).max())),
    )


def _classes_of_mass(mass: Floats) -> Integers:
    """Numbers that rise as mass falls, the same for masses that only rounding tells apart (basins that a symmetry exchanges)."""
    falling = np.argsort(-mass, kind="stable")
    logarithms = np.log(np.maximum(mass[falling], np.finfo(np.float64).tiny))
    classes = np.empty(mass.size, dtype=np.int32)
    classes[falling[0]] = 0
    classes[falling[1:]] = np.cumsum(-np.diff(logarithms) > tolerances.MASS_TIE)
    return classes


def _orders(basins: Sequence[int], seed: int, saddle: int, exhaustive: int, draws: int) -> Iterator[Sequence[int]]:
    """Every order of up to ``exhaustive`` basins, or that many random draws of more."""
    if len(basins) <= exhaustive:
        yield from permutations(basins)
        return
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, saddle])))
    for _ in range(draws):
        yield generator.permutation(basins).tolist()
