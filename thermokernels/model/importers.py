"""Fitted machines of other libraries in the conventions of this one: E(v, h) = -v'W h - b'v - c'h, spins +1 and -1, temperature 1.

The libraries are not imported: an object is asked for the attributes that carry its parameters. Energies agree up to a constant.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thermokernels.common import arguments
from thermokernels.common.error_state import default_error_state
from thermokernels.model.conversions import from_zero_one
from thermokernels.model.model import Model

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
    components, visible, hidden = attributes_of(rbm, names, "rbm", wanted)
    changed = [name for name in ENERGY_OF_SCIKIT_LEARN if getattr(type(rbm), name, None) is not getattr(bases[0], name, None)]
    if changed:
        raise ValueError(f"rbm must be {wanted}; {type(rbm).__name__} replaces its {changed[0]}, so that its energy may be another")
    return sampled_by_scans(from_zero_one(arguments.as_couplings(components, "components_").T, visible, hidden))


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
    values = attributes_of(params, ("weight_matrix", "vbias", "hbias"), "params", f"a {name} of the package rbms")
    return of_rbms(name, *values)


def units_of_rbms(params: Any) -> str:
    """ "zero-one" or "pm1", of a machine that :func:`from_rbms` reads."""
    return MACHINES_OF_RBMS[getattr(params, "name", type(params).__name__)]


def of_rbms(name: str, weight_matrix: Any, vbias: Any, hbias: Any) -> Model:
    """The model of a machine of rbms whose class has this name, one of ``MACHINES_OF_RBMS``."""
    if MACHINES_OF_RBMS[name] == "pm1":
        return Model(arguments.as_couplings(weight_matrix, "weight_matrix"), vbias, hbias, kernel="alternating")
    return sampled_by_scans(from_zero_one(weight_matrix, vbias, hbias))


def sampled_by_scans(model: Model) -> Model:
    """The same model, sampled by the alternating kernel."""
    return Model(*model, visible=model.visible, hidden=model.hidden, kernel="alternating", mask=model.mask)


def _version_of(package: str, machine: Any) -> str:
    """The installed version in brackets, of a machine of this package."""
    if type(machine).__module__.split(".")[0] != package:
        return ""
    with suppress(PackageNotFoundError):
        return f" ({package} {version({'sklearn': 'scikit-learn'}.get(package, package))})"
    return ""


def attributes_of(model: Any, names: tuple[str, ...], argument: str, wanted: str) -> list[Any]:
    """Attributes of an object of another library; ValueError that says which one it has not."""
    missing = [name for name in names if not hasattr(model, name)]
    if missing:
        raise ValueError(f"{argument} must be {wanted}, with {', '.join(names)}; {type(model).__name__} has no {missing[0]}")
    return [getattr(model, name) for name in names]
