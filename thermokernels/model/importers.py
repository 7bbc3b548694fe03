"""Fitted models of other libraries in the conventions of this one: E(v, h) = -v'W h - b'v - c'h, spins +1 and -1, temperature 1.

The libraries are not imported: an object is asked for the attributes that carry its parameters. Energies agree up to a constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thermokernels.common import arguments
from thermokernels.common.error_state import default_error_state
from thermokernels.model.conversions import from_ising, from_zero_one, told_apart
from thermokernels.model.model import Label, Model

# Methods of BernoulliRBM that spell out its energy.
ENERGY_OF_SCIKIT_LEARN = ("_free_energy", "_mean_hiddens", "_sample_visibles", "_sample_hiddens")

# Machines of rbms with binary units on both sides, by their own names: units 0 and 1, or spins +1 and -1.
MACHINES_OF_RBMS = {"BBRBM": "zero-one", "IIRBM": "pm1"}
VISIBLE_TYPES = {"BBRBM": ("bernoulli",), "IIRBM": ("ising",)}


@default_error_state
def from_scikit_learn(rbm: Any) -> Model:
    """The model of a fitted ``sklearn.neural_network.BernoulliRBM``: units 0 and 1 become spins -1 and +1.

    It has E = -h'w v - a'v - d'h with w = ``components_`` (n_h, n_v), a = ``intercept_visible_``, d = ``intercept_hidden_``; see
    :func:`from_zero_one`. It is sampled by the alternating kernel.

    Raises
    ------
    ValueError
        Not fitted or no such machine, one of a class that changes its energy, or parameters that do not fit together.

    Examples
    --------
    >>> class BernoulliRBM:  # in place of a fitted machine
    ...     components_, intercept_visible_, intercept_hidden_ = [[4.0, 8.0]], [0.0, 0.0], [0.0]
    >>> W, b, c = from_scikit_learn(BernoulliRBM())
    >>> W.tolist(), b.tolist(), c.tolist()
    ([[1.0], [2.0]], [1.0, 2.0], [3.0])
    """
    wanted = "a fitted BernoulliRBM of scikit-learn"
    bases = [kind for kind in type(rbm).__mro__ if kind.__name__ == "BernoulliRBM"]
    if not bases:
        raise ValueError(f"rbm must be {wanted}; got a {type(rbm).__name__}{_version_of('sklearn', rbm)}")
    names = ("components_", "intercept_visible_", "intercept_hidden_")
    components, visible, hidden = _attributes(rbm, names, "rbm", wanted)
    changed = [name for name in ENERGY_OF_SCIKIT_LEARN if getattr(type(rbm), name, None) is not getattr(bases[0], name, None)]
    if changed:
        raise ValueError(f"rbm must be {wanted}; {type(rbm).__name__} replaces its {changed[0]}, so that its energy may be another")
    return _sampled(from_zero_one(arguments.as_couplings(components, "components_").T, visible, hidden))


@default_error_state
def from_rbms(params: Any) -> Model:
    """The model of a machine of the package ``rbms`` with binary units on both sides.

    ``BBRBM`` has units 0 and 1, which become spins -1 and +1, ``IIRBM`` has spins; both have E = -v'w h - a'v - d'h with
    w = ``weight_matrix`` (n_v, n_h), a = ``vbias``, d = ``hbias``, tensors on any device, and are sampled by the alternating kernel. Which
    it is the machine says itself, in ``params.name``.

    Raises
    ------
    ValueError
        No such machine (one with Potts or Gaussian units, say), or parameters that do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace  # in place of a trained machine
    >>> params = SimpleNamespace(name="BBRBM", weight_matrix=np.array([[4.0, 8.0]]), vbias=np.zeros(1), hbias=np.array([2.0, 0.0]))
    >>> W, b, c = from_rbms(params)
    >>> W.tolist(), b.tolist(), c.tolist()
    ([[1.0, 2.0]], [3.0], [2.0, 2.0])
    """
    name = getattr(params, "name", type(params).__name__)
    units = getattr(params, "visible_type", None)
    if name not in MACHINES_OF_RBMS or units not in (None, *VISIBLE_TYPES[name]):
        typed = "" if units is None else f" with visible units of type {arguments.in_brief(units)}"
        raise ValueError(
            f"params must be a BBRBM or IIRBM of the package rbms, whose units are 0 and 1 or +1 and -1 on both sides; got "
            f"{arguments.in_brief(name)}{typed}{_version_of('rbms', params)}, which is read as neither"
        )
    values = _attributes(params, ("weight_matrix", "vbias", "hbias"), "params", f"a {name} of the package rbms")
    return of_rbms(name, *values)


def of_rbms(name: str, weight_matrix: Any, vbias: Any, hbias: Any) -> Model:
    """The model of a machine of rbms whose class has this name, one of ``MACHINES_OF_RBMS``."""
    if MACHINES_OF_RBMS[name] == "pm1":
        return Model(arguments.as_couplings(weight_matrix, "weight_matrix"), vbias, hbias, kernel="alternating")
    return _sampled(from_zero_one(weight_matrix, vbias, hbias))


def _sampled(model: Model) -> Model:
    return Model(*model, visible=model.visible, hidden=model.hidden, kernel="alternating", mask=model.mask)


def _version_of(package: str, machine: Any) -> str:
    """The installed version in brackets, of a machine of this package."""
    if type(machine).__module__.split(".")[0] != package:
        return ""
    with suppress(PackageNotFoundError):
        return f" ({package} {version({'sklearn': 'scikit-learn'}.get(package, package))})"
    return ""


@default_error_state
def from_dimod(bqm: Any, visible: Iterable[Label] | None = None, hidden: Iterable[Label] | None = None, beta: float = 1.0) -> Model:
    """The law exp(-beta E) of a bipartite ``dimod.BinaryQuadraticModel``, of SPIN or BINARY vartype.

    dimod has E(s) = sum_i h_i s_i + sum_ij J_ij s_i s_j, so W = -beta J, b and c = -beta h. Of BINARY variables 1 becomes spin +1, 0
    becomes spin -1, by dimod's own ``to_ising``.

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
    variables, to_ising = _attributes(bqm, ("variables", "to_ising"), "bqm", "a BinaryQuadraticModel of dimod")
    fields, couplings, _ = to_ising()
    return _labelled(list(variables), fields, couplings, visible, hidden, -arguments.as_positive(beta, "beta", "inverse temperature"))


@default_error_state
def from_thrml(ebm: Any, visible: Iterable[Label] | None = None, hidden: Iterable[Label] | None = None) -> Model:
    """The law of a bipartite ``thrml.models.IsingEBM``; its temperature ``beta`` goes into W, b and c.

    thrml has E(s) = -beta (sum_i b_i s_i + sum_ij J_ij s_i s_j) over ``nodes`` with ``biases`` and ``edges`` with ``weights``; a state is
    stored as a bool, True for spin +1: of its samples ``2 * x.astype(int) - 1`` makes spins.

    Parameters
    ----------
    ebm : thrml.models.IsingEBM
    visible, hidden : nodes of the two sides, in the order of the spins; found as in :func:`from_dimod` where not given

    Raises
    ------
    ValueError
        As :func:`from_dimod`.

    Examples
    --------
    >>> import thermokernels as tk
    >>> from types import SimpleNamespace  # in place of an IsingEBM
    >>> ebm = SimpleNamespace(nodes=["x", "a"], biases=[0.0, 0.5], edges=[("x", "a")], weights=[1.0], beta=2.0)
    >>> model = tk.from_thrml(ebm)
    >>> model.W.tolist(), model.c.tolist()
    ([[2.0]], [1.0])
    """
    names = ("nodes", "biases", "edges", "weights", "beta")
    nodes, biases, edges, weights, beta = _attributes(ebm, names, "ebm", "an IsingEBM of thrml")
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
    return _sampled(_labelled([*nodes, *loose], fields, couplings, visible, hidden, float(scale.ravel()[0])))


def _attributes(model: Any, names: tuple[str, ...], argument: str, wanted: str) -> list[Any]:
    missing = [name for name in names if not hasattr(model, name)]
    if missing:
        raise ValueError(f"{argument} must be {wanted}, with {', '.join(names)}; {type(model).__name__} has no {missing[0]}")
    return [getattr(model, name) for name in names]


def _labelled(
    labels: list[Label],
    fields: Mapping[Label, float],
    couplings: Mapping[tuple[Label, Label], float],
    visible: Iterable[Label] | None,
    hidden: Iterable[Label] | None,
    scale: float,
) -> Model:
    """The model E = -scale (sum fields s + sum couplings s s) on two sides, given or found."""
    present = {pair: float(coupling) for pair, coupling in couplings.items() if coupling != 0}
    if visible is None and hidden is None:
        sides = _two_colours(labels, present)
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
    return from_ising(scaled, {pair: -scale * coupling for pair, coupling in present.items()}, *sides)


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


def _two_colours(labels: list[Label], couplings: Iterable[tuple[Label, Label]]) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Two sides without a coupling inside: breadth first, the first label of each connected part being visible."""
    neighbours: dict[Label, list[Label]] = {label: [] for label in labels}
    for one, other in couplings:
        neighbours[one].append(other)
        neighbours[other].append(one)
    colour: dict[Label, int] = {}
    for first in labels:
        if first in colour:
            continue
        colour[first] = 0
        queue = [first]
        for label in queue:  # grows while it is read
            for neighbour in neighbours[label]:
                if neighbour not in colour:
                    colour[neighbour] = 1 - colour[label]
                    queue.append(neighbour)
                elif colour[neighbour] == colour[label]:
                    raise ValueError(
                        f"the couplings must join two sides; {told_apart(label, labels)} and {told_apart(neighbour, labels)} are coupled "
                        "and lie on a cycle of odd length, so no choice of visible and hidden variables makes this a restricted "
                        "Boltzmann machine"
                    )
    visible, hidden = (tuple(label for label in labels if colour[label] == side) for side in (0, 1))
    return visible, hidden
