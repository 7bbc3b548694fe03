"""The layout of a disconnectivity graph: where the line of every basin stands, how far it reaches, and what it joins."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.model.chain import GibbsChain
from thermokernels.quantities.landscape import merge_tree

# More lines than this cannot be told apart; the least persistent basins are left out.
MAX_BASINS = 40


@dataclass(eq=False)
class Branch:
    """A basin on the graph: a leaf (``children`` empty, ``state`` its lowest state) or what a saddle at energy ``bottom`` joined.

    ``mass`` is pi of the basin just below ``top``, the energy at which it joins another; ``value`` the mean of an observable over it;
    ``number`` of a leaf that joins a deeper basin: its place by falling mass, as in the table of a diagnosis, else 0.
    """

    bottom: float
    top: float
    mass: float
    value: float
    state: int
    children: list[Branch] = field(default_factory=list)
    position: float = 0.0
    number: int = 0

    def leaves(self) -> list[Branch]:
        """The leaves below this branch, from left to right."""
        return [leaf for child in self.children for leaf in child.leaves()] if self.children else [self]


def layout(chain: GibbsChain, observable: Floats | None = None, max_basins: int = MAX_BASINS) -> tuple[Branch, int]:
    """The disconnectivity graph of a chain's energy, and how many basins were left out (those with the lowest barriers).

    Parameters
    ----------
    chain : GibbsChain
    observable : (n_states,) whose mean over each basin becomes its ``value``; None for the mass
    max_basins : the most persistent basins that are drawn

    Returns
    -------
    (root, n_left_out); positions run from 0 to the number of leaves less one, energies are in units of the temperature.
    """
    tree = merge_tree(chain)
    events, numbers = tree.events, {event: number for number, event in enumerate(tree.by_mass(), start=1)}
    # The basin that survives an event is older: its own barrier is no lower, so the most persistent basins form a graph of their own.
    kept = set(sorted(events, key=lambda event: -event.barrier)[: max_basins - 1])
    law = chain.law
    branches: dict[int, Branch] = {}  # by the lowest state of each basin, the root of what it has become

    def mean(mask: np.ndarray) -> tuple[float, float]:
        mass = float(law[mask].sum())
        return mass, mass if observable is None else float(law[mask] @ observable[mask]) / mass if mass > 0 else float("nan")

    def branch_of(mask: np.ndarray, top: float) -> Branch:
        """The branch of the basin ``mask``, now known to reach up to ``top``."""
        mass, value = mean(mask)
        branch = next((known for state, known in branches.items() if mask[state]), None)
        if branch is None:
            states = np.flatnonzero(mask)
            lowest = int(states[np.argmin(chain.energy[states])])
            branch = branches[lowest] = Branch(float(chain.energy[lowest]), top, mass, value, lowest)
        branch.top, branch.mass, branch.value = top, mass, value
        return branch

    def own(branch: Branch) -> None:
        for leaf in branch.leaves():
            branches[leaf.state] = branch

    root = None
    for event in (event for event in events if event in kept):
        surviving, dying = branch_of(event.surviving, event.saddle_energy), branch_of(event.dying, event.saddle_energy)
        next(leaf for leaf in dying.leaves() if leaf.state == dying.state).number = numbers[event]
        if surviving.children and surviving.bottom == event.saddle_energy:  # one more basin at the same saddle
            surviving.children.append(dying)
            root = surviving
        else:
            root = Branch(event.saddle_energy, event.saddle_energy, 0.0, 0.0, surviving.state, [surviving, dying])
        own(root)
    if root is None:
        root = branch_of(np.ones(chain.n_states, dtype=np.bool_), float(chain.energy.min()))
    mass, value = mean(np.ones(chain.n_states, dtype=np.bool_))
    root.mass, root.value = mass, value
    lowest = min(leaf.bottom for leaf in root.leaves())
    root.top = root.bottom + 0.06 * max(root.bottom - lowest, 1.0)
    _place(root)
    return root, len(events) - len(kept)


def _place(root: Branch) -> None:
    """Deeper basins to the middle of their saddle, leaves one apart, every branch over the mean of its children."""

    def order(branch: Branch) -> None:
        by_depth = sorted(branch.children, key=lambda child: min(leaf.bottom for leaf in child.leaves()), reverse=True)
        branch.children = by_depth[0::2] + by_depth[1::2][::-1]
        for child in branch.children:
            order(child)

    order(root)
    for position, leaf in enumerate(root.leaves()):
        leaf.position = float(position)

    def centre(branch: Branch) -> float:
        if branch.children:
            branch.position = float(np.mean([centre(child) for child in branch.children]))
        return branch.position

    centre(root)
