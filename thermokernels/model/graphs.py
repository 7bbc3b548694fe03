"""Couplings on a graph, such as that of hardware: its two colours are the two layers, and where there is no edge there is no coupling.

E(v, h) = -v'W h - b'v - c'h, spins +1 and -1, temperature 1; energies agree up to a constant. The libraries are not imported: an object is
asked for the attributes that carry its parameters.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from thermokernels.common import arguments
from thermokernels.common.error_state import default_error_state
from thermokernels.model.conversions import from_ising, told_apart
from thermokernels.model.importers import attributes_of, sampled_by_scans
from thermokernels.model.model import Label, Model

# Nodes of an odd cycle that a message names.
SHOWN = 12


@default_error_state
def from_dimod(bqm: Any, visible: Iterable[Label] | None = None, hidden: Iterable[Label] | None = None, beta: float = 1.0) -> Model:
    """The law exp(-beta E) of a bipartite ``dimod.BinaryQuadraticModel``, of SPIN or BINARY vartype.

    dimod has E(s) = sum_i h_i s_i + sum_ij J_ij s_i s_j, so W = -beta J, b and c = -beta h. Of BINARY variables 1 becomes spin +1, 0
    becomes spin -1, by dimod's own ``to_ising``. A pair without an interaction is a coupling that does not exist (``mask`` of
    :class:`Model`); an interaction of zero exists, but within a side, where it couples nothing.

    Parameters
    ----------
    bqm : dimod.BinaryQuadraticModel
    visible, hidden : labels of the two sides, in the order of the spins
        One side alone leaves the rest to the other, in the model's order. With neither the couplings decide: in each connected part the
        variable that comes first is visible, its neighbours are hidden, theirs visible, and so on; one without couplings is visible.
    beta : inverse temperature of the sampler

    Raises
    ------
    ValueError
        No such model, couplings within one side, variables that cannot be split into two sides, or a side that is empty.

    Examples
    --------
    >>> import thermokernels as tk
    >>> from types import SimpleNamespace  # in place of dimod.BinaryQuadraticModel({"x": 0.0, "a": 0.5}, {"xa": -1.0}, "SPIN")
    >>> ising = {"x": 0.0, "a": 0.5}, {("x", "a"): -1.0}, 0.0
    >>> model = tk.from_dimod(SimpleNamespace(variables=["x", "a"], to_ising=lambda: ising), beta=2.0)
    >>> model.W.tolist(), model.c.tolist(), model.visible, model.hidden
    ([[2.0]], [-1.0], ('x',), ('a',))
    """
    variables, to_ising = attributes_of(bqm, ("variables", "to_ising"), "bqm", "a BinaryQuadraticModel of dimod")
    fields, couplings, _ = to_ising()
    return _labelled(list(variables), fields, couplings, visible, hidden, -arguments.as_positive(beta, "beta", "inverse temperature"))


@default_error_state
def from_thrml(ebm: Any, visible: Iterable[Label] | None = None, hidden: Iterable[Label] | None = None, *, blocks: Any = None) -> Model:
    """The law of a bipartite ``thrml.models.IsingEBM``; its temperature ``beta`` goes into W, b and c.

    thrml has E(s) = -beta (sum_i b_i s_i + sum_ij J_ij s_i s_j) over ``nodes`` with ``biases`` and ``edges`` with ``weights``; a state is
    stored as a bool, True for spin +1: of its samples ``2 * x.astype(int) - 1`` makes spins. Couplings exist where there is an edge.

    thrml resamples its free blocks one after the other. With two of them, the colours of the graph, a step is one of the alternating
    kernel, a sweep: of a ``SamplingSchedule``, ``n_samples`` records are ``steps_per_sample`` sweeps apart (``every`` of
    :func:`thermokernels.compare`) and follow ``n_warmup`` sweeps (``burn_in``).

    Parameters
    ----------
    ebm : thrml.models.IsingEBM
    visible, hidden : nodes of the two sides, in the order of the spins; found as in :func:`from_dimod` where not given
    blocks : the free blocks of the sampling program, or the program, optional
        In place of both: the block that is resampled first is visible, the other one hidden. A tuple of blocks is one, as in thrml.

    Raises
    ------
    ValueError
        As :func:`from_dimod`; blocks that are not two, or beside sides.

    Examples
    --------
    >>> import thermokernels as tk
    >>> from types import SimpleNamespace  # in place of an IsingEBM
    >>> ebm = SimpleNamespace(nodes=["x", "a"], biases=[0.0, 0.5], edges=[("x", "a")], weights=[1.0], beta=2.0)
    >>> model = tk.from_thrml(ebm)
    >>> model.W.tolist(), model.c.tolist()
    ([[2.0]], [1.0])
    """
    if blocks is not None:
        if not (visible is None and hidden is None):
            raise ValueError("blocks must be given in place of visible and hidden, not beside them")
        visible, hidden = _free_blocks(blocks)
    names = ("nodes", "biases", "edges", "weights", "beta")
    nodes, biases, edges, weights, beta = attributes_of(ebm, names, "ebm", "an IsingEBM of thrml")
    fields = dict(zip(nodes, arguments.as_vector(biases, len(nodes), "biases").tolist(), strict=True))
    kinds = {type(node).__name__ for node in nodes}
    if "CategoricalNode" in kinds:
        raise ValueError("ebm must be an IsingEBM of thrml on spins; some of its nodes are of the class CategoricalNode")
    couplings: dict[tuple[Label, Label], float] = {}
    for (one, other), weight in zip(edges, arguments.as_vector(weights, len(edges), "weights").tolist(), strict=True):
        couplings[one, other] = couplings.get((one, other), 0.0) + weight  # an edge that is listed twice counts twice
    loose = dict.fromkeys(node for edge in edges for node in edge if node not in fields)  # nodes without a bias of their own
    scale = arguments.as_finite(beta, "beta")
    if scale.size != 1:
        raise ValueError(f"beta must be one number; got shape {scale.shape}")
    return sampled_by_scans(_labelled([*nodes, *loose], fields, couplings, visible, hidden, float(scale.ravel()[0])))


@default_error_state
def from_graph(
    graph: Any,
    visible: Iterable[Label] | None = None,
    hidden: Iterable[Label] | None = None,
    *,
    fields: Mapping[Label, float] | None = None,
    weight: str = "weight",
    beta: float = 1.0,
) -> Model:
    """The model of a bipartite graph of networkx, or of a list of its edges: E(s) = -beta (sum_i fields_i s_i + sum_ij w_ij s_i s_j).

    Parameters
    ----------
    graph : networkx.Graph, or a list of edges (i, j) or (i, j, w_ij)
        Edges that are listed twice add up. Where no edge has a weight all couplings are zero, and exist.
    visible, hidden : labels of the two sides, in the order of the spins; found as in :func:`from_dimod` where not given
    fields : label -> field, zero where there is none
    weight : the attribute of the edges of a networkx.Graph that holds w_ij
    beta : inverse temperature

    Raises
    ------
    ValueError
        No such graph, edges of which some have a weight and some have none, or as :func:`from_dimod`: a cycle of odd length is named.

    Examples
    --------
    A square has two colours and all four couplings; a path of four leaves one out.

    >>> import thermokernels as tk
    >>> tk.from_graph([("a", "b", 0.5), ("b", "c", -0.2), ("c", "d", 0.1), ("d", "a", 0.3)])
    Model(2 visible + 2 hidden spins, couplings up to 0.5, no fields)
    >>> path = tk.from_graph([("a", "b", 0.5), ("b", "c", -0.2), ("c", "d", 0.1)])
    >>> path.visible, path.hidden, path.mask.tolist()
    (('a', 'c'), ('b', 'd'), [[True, False], [True, True]])
    """
    if hasattr(graph, "nodes") and callable(getattr(graph, "edges", None)):
        labels, edges = list(graph.nodes), [(one, other, data.get(weight)) for one, other, data in graph.edges(data=True)]
    else:
        edges = [_as_edge(edge) for edge in _as_edges(graph)]
        labels = list(dict.fromkeys(label for one, other, _ in edges for label in (one, other)))
    bare = [edge for edge in edges if edge[2] is None]
    if bare and len(bare) < len(edges):
        raise ValueError(
            f"graph must have a weight ({weight!r}) at every edge, or at none; "
            f"({arguments.in_brief(bare[0][0])}, {arguments.in_brief(bare[0][1])}) has none"
        )
    couplings: dict[tuple[Label, Label], Any] = {}
    for one, other, value in edges:
        couplings[one, other] = couplings.get((one, other), 0.0) + _as_weight(value, one, other)
    scale = arguments.as_positive(beta, "beta", "inverse temperature")
    given: Mapping[Label, float] = {} if fields is None else fields
    known = dict.fromkeys([*labels, *given])
    return _labelled(list(known), given, couplings, visible, hidden, scale)


def _as_edges(graph: Any) -> list[Any]:
    if isinstance(graph, str) or not isinstance(graph, Iterable):
        raise ValueError(f"graph must be a graph of networkx or a list of edges; got {arguments.in_brief(graph)}")
    return list(graph)


def _as_edge(edge: Any) -> tuple[Label, Label, Any]:
    """(i, j, weight or None)."""
    if not isinstance(edge, tuple | list) or len(edge) not in (2, 3):
        raise ValueError(f"graph must hold edges (i, j) or (i, j, weight); got {arguments.in_brief(edge)}")
    one, other, value = (*edge, None)[:3]
    for label in (one, other):
        if not isinstance(label, Hashable):
            raise ValueError(f"graph must have hashable labels; got {arguments.in_brief(label)}")
    return one, other, value


def _as_weight(value: Any, one: Label, other: Label) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(
            f"graph must have numbers as weights; ({arguments.in_brief(one)}, {arguments.in_brief(other)}) has {arguments.in_brief(value)}"
        )
    return float(value)


def _free_blocks(blocks: Any) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """The nodes of the two blocks of a sampling program of thrml, in the order in which they are resampled."""
    spec = getattr(blocks, "gibbs_spec", blocks)
    if getattr(spec, "clamped_blocks", None):
        raise ValueError("blocks must be of a program without clamped blocks; what is held fixed is no spin of the model")
    groups: Any = getattr(spec, "superblocks", blocks)
    if not isinstance(groups, list | tuple) or len(groups) != 2:
        count = f"{len(groups)} of them" if isinstance(groups, list | tuple) else arguments.in_brief(groups)
        raise ValueError(f"blocks must be the two free blocks of a program, one for each colour of the graph; got {count}")
    first, second = (
        tuple(node for block in (group if isinstance(group, tuple) else (group,)) for node in _nodes(block)) for group in groups
    )
    return first, second


def _nodes(block: Any) -> tuple[Label, ...]:
    return tuple(block.nodes if hasattr(block, "nodes") else block)


def _labelled(
    labels: list[Label],
    fields: Mapping[Label, float],
    couplings: Mapping[tuple[Label, Label], float],
    visible: Iterable[Label] | None,
    hidden: Iterable[Label] | None,
    scale: float,
) -> Model:
    """The model E = -scale (sum fields s + sum couplings s s) on two sides, given or found; there are no other couplings."""
    present = {pair: float(coupling) for pair, coupling in couplings.items() if coupling != 0}
    if visible is None and hidden is None:
        _, cycle = _coloured(labels, couplings)
        sides = two_colours(labels, present if cycle and present else couplings)  # a coupling of zero within a side couples nothing
    else:
        given = [_side(side, name, labels) for side, name in ((visible, "visible"), (hidden, "hidden"))]
        taken = {label for side in given if side is not None for label in side}
        rest = tuple(label for label in labels if label not in taken)
        sides = (rest if given[0] is None else given[0], rest if given[1] is None else given[1])
        if None not in given and rest:
            raise ValueError(f"visible and hidden must hold every variable; {told_apart(rest[0], labels)} is in neither")
    for name, side in zip(("visible", "hidden"), sides, strict=True):
        if not side:
            raise ValueError(f"{name} must hold at least one variable; it is empty, and a machine has spins on both sides")
    scaled = {label: -scale * float(field) for label, field in fields.items()}
    model = from_ising(scaled, {pair: -scale * coupling for pair, coupling in present.items()}, *sides)
    rows, columns = ({label: k for k, label in enumerate(side)} for side in sides)
    mask = np.zeros(model.W.shape, dtype=np.bool_)
    for one, other in couplings:
        if one in rows and other in columns:
            mask[rows[one], columns[other]] = True
        elif other in rows and one in columns:
            mask[rows[other], columns[one]] = True
    if not mask.any():
        raise ValueError("the couplings must join visible and hidden variables; there are none")
    return Model(*model, visible=model.visible, hidden=model.hidden, mask=mask)


def _side(side: Iterable[Label] | None, name: str, labels: list[Label]) -> tuple[Label, ...] | None:
    """The labels of one side, each of which the model has; of words in a row each letter is one."""
    if side is None:
        return None
    found = tuple(side) if isinstance(side, str) else arguments.as_labels(side, name)
    known = set(labels)
    for label in found:
        if label not in known:
            raise ValueError(f"{name} must name variables of the model; it has no {arguments.in_brief(label)}")
    return found


def two_colours(labels: Sequence[Label], couplings: Iterable[tuple[Label, Label]]) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Two sides without a coupling inside: breadth first, the first label of each connected part being visible.

    Raises
    ------
    ValueError
        A cycle of odd length, which it names.
    """
    colour, cycle = _coloured(labels, couplings)
    if cycle:
        one, other = (told_apart(label, labels) for label in (cycle[0], cycle[1 % len(cycle)]))
        named = ", ".join(told_apart(label, labels) for label in cycle[:SHOWN])
        more = f" and {len(cycle) - SHOWN} more" if len(cycle) > SHOWN else ""
        raise ValueError(
            f"the couplings must join two sides; {one} and {other} are coupled and lie on a cycle of odd length ({named}{more}), so no "
            "choice of visible and hidden variables makes this a restricted Boltzmann machine"
        )
    visible, hidden = (tuple(label for label in labels if colour[label] == side) for side in (0, 1))
    return visible, hidden


def _coloured(labels: Iterable[Label], couplings: Iterable[tuple[Label, Label]]) -> tuple[dict[Label, int], list[Label]]:
    """A side for every label, and a cycle of odd length where there is one: two neighbours of one colour, and what joins them."""
    neighbours: dict[Label, list[Label]] = {label: [] for label in labels}
    for one, other in couplings:
        neighbours[one].append(other)
        neighbours[other].append(one)
    colour: dict[Label, int] = {}
    parents: dict[Label, Label] = {}
    for first in neighbours:
        if first in colour:
            continue
        colour[first] = 0
        queue = [first]
        for label in queue:  # grows while it is read
            for neighbour in neighbours[label]:
                if neighbour not in colour:
                    colour[neighbour], parents[neighbour] = 1 - colour[label], label
                    queue.append(neighbour)
                elif colour[neighbour] == colour[label]:
                    return colour, _cycle(label, neighbour, parents)
    return colour, []


def _cycle(one: Label, other: Label, parents: Mapping[Label, Label]) -> list[Label]:
    """From one through other and back by the tree: both lie equally deep in it."""
    down, up = [one], [other]
    while down[-1] != up[-1]:
        down.append(parents[down[-1]])
        up.append(parents[up[-1]])
    return [one, *up, *reversed(down[1:-1])] if one != other else [one]
