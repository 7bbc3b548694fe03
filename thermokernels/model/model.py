"""A restricted Boltzmann machine as one object: couplings and fields, checked once, with the names of its spins where they have any."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from os import PathLike
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.foreign_arrays import as_array, labels_of
from thermokernels.model.files import model_files
from thermokernels.model.kernels.registry import as_kernel

Label = Hashable
Mask = NDArray[np.bool_]

# Rows and columns of W that a notebook shows.
SHOWN = 12


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Model:
    """Couplings and fields of a restricted Boltzmann machine, E(v, h) = -v'W h - b'v - c'h; every public function that takes W takes one.

    It unpacks as ``W, b, c = model``. Two are equal where couplings, fields, names and kernel are.

    With a ``mask`` some couplings do not exist, as on hardware whose graph is bipartite and not complete. The gradient, and with it the
    signal, T_O, V and Q, are then sums over the couplings that do, and derivatives by the others are zero. What cannot do so refuses the
    model; ``Model(*model)`` has all couplings.

    Parameters
    ----------
    W : (n_v, n_h) array_like of float64
        Couplings, dimensionless (the inverse temperature is absorbed); row i is visible spin i.
    b, c : (n_v,) and (n_h,) array_like of float64, optional
        Visible and hidden fields, dimensionless; zero where not given.
    visible, hidden : names of the spins in the order of rows and columns, optional
        Any hashable objects, all different. Of a table with labels (pandas) they are taken from W.
    kernel : the kernel that the library which trained the model samples it with ("alternating" of scikit-learn, rbms and thrml), optional
        What is said of traces, and the diagnosis, go by it where no kernel is named.
    mask : (n_v, n_h) booleans, True where a coupling exists, optional
        All of them where not given. W must be zero elsewhere.

    Attributes
    ----------
    W, b, c : float64, C-contiguous, copies of what was handed in, and not writeable
    visible, hidden : tuples of names, or None
    kernel : str or None
    mask : (n_v, n_h) booleans, not writeable, or None where all couplings exist

    Raises
    ------
    ValueError
        Bad shapes, entries that are not finite, names that are not as many as the spins or not all different, or a mask that leaves no
        coupling or leaves one out that is not zero.

    Examples
    --------
    >>> model = Model([[0.5, -0.2], [0.1, 0.3]], b=[0.1, 0.0])
    >>> model
    Model(2 visible + 2 hidden spins, couplings up to 0.5, fields up to 0.1)
    >>> W, b, c = model
    >>> c.tolist(), model == Model(W, b)
    ([0.0, 0.0], True)
    >>> Model([[0.5, 0.0], [0.1, 0.3]], mask=[[True, False], [True, True]])
    Model(2 visible + 2 hidden spins, 3 of 4 couplings up to 0.5, no fields)
    """

    W: Floats
    b: Floats
    c: Floats
    visible: tuple[Label, ...] | None
    hidden: tuple[Label, ...] | None
    kernel: str | None
    mask: Mask | None

    def __init__(
        self,
        W: ArrayLike,
        b: ArrayLike | None = None,
        c: ArrayLike | None = None,
        *,
        visible: Iterable[Label] | None = None,
        hidden: Iterable[Label] | None = None,
        kernel: str | None = None,
        mask: ArrayLike | None = None,
    ) -> None:
        rows, columns = labels_of(W)
        visible, hidden = rows if visible is None else visible, columns if hidden is None else hidden
        weights = arguments.as_couplings(W)
        n_visible, n_hidden = weights.shape
        arrays = {"W": weights, "b": arguments.as_field(b, n_visible, "b"), "c": arguments.as_field(c, n_hidden, "c")}
        for name, array in arrays.items():
            own = array.copy()  # the caller may go on with W in place
            own.flags.writeable = False
            object.__setattr__(self, name, own)
        object.__setattr__(self, "visible", _as_names(visible, n_visible, "visible"))
        object.__setattr__(self, "hidden", _as_names(hidden, n_hidden, "hidden"))
        object.__setattr__(self, "kernel", None if kernel is None else as_kernel(kernel, lambda one: one.layer is None).name)
        object.__setattr__(self, "mask", _as_mask(mask, weights))
        for name, field, names in (("b", b, self.visible), ("c", c, self.hidden)):
            if (labels := labels_of(field)[0]) is not None and labels != names:
                raise ValueError(
                    f"{name} must have the labels of the spins in their order; it has {arguments.in_brief(labels)} and the spins are "
                    f"{arguments.in_brief(names)}"
                )

    @property
    def n_visible(self) -> int:
        return int(self.W.shape[0])

    @property
    def n_hidden(self) -> int:
        return int(self.W.shape[1])

    @property
    def n_spins(self) -> int:
        """N: a sweep is N steps of the single-site kernel."""
        return self.n_visible + self.n_hidden

    @property
    def has_fields(self) -> bool:
        """Whether b or c has an entry that is not zero, so that x and -x differ."""
        return bool(self.b.any() or self.c.any())

    def without_fields(self) -> Model:
        """The same couplings and names alone."""
        return Model(self.W, visible=self.visible, hidden=self.hidden, kernel=self.kernel, mask=self.mask)

    @property
    def edges(self) -> Mask:
        """(n_v n_h,) booleans: which couplings exist, in C order."""
        return np.ones(self.W.size, dtype=np.bool_) if self.mask is None else self.mask.ravel()

    @property
    def n_couplings(self) -> int:
        """How many couplings exist."""
        return int(self.edges.sum())

    def on_edges(self, values: Floats) -> Floats:
        """Numbers of the couplings (n_v, n_h), zero where there is none."""
        return values if self.mask is None else np.where(self.mask, values, 0.0)

    def require_all_couplings(self, what: str) -> None:
        """ValueError where some couplings do not exist, which ``what`` cannot do with."""
        if self.mask is not None:
            raise ValueError(
                f"{what} needs all {self.W.size} couplings to exist; by its mask this model has {self.n_couplings} of them: use "
                "Model(*model), or an exact quantity such as q_struct"
            )

    @default_error_state
    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file that :func:`thermokernels.load_model` and the command read; an existing one is replaced as a whole.

        Parameters
        ----------
        path : of a file whose name ends in .npz, which keeps everything, or in .npy or .csv, which keep W alone

        Raises
        ------
        ValueError
            Another ending; .npy or .csv for a model with fields, names, a kernel or a mask; names that are neither all words nor all
            whole numbers.
        OSError
            The file cannot be written.
        """
        content: dict[str, Any] = {"W": self.W}
        content |= {name: field for name, field in (("b", self.b), ("c", self.c)) if field.any()}
        content |= {name: names for name, names in (("visible", self.visible), ("hidden", self.hidden)) if names is not None}
        content |= {name: value for name, value in (("kernel", self.kernel), ("mask", self.mask)) if value is not None}
        model_files.write_model(path, content)

    def __iter__(self) -> Iterator[Floats]:
        return iter((self.W, self.b, self.c))

    def __len__(self) -> int:
        return 3

    @overload
    def __getitem__(self, index: int) -> Floats: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Floats, ...]: ...
    def __getitem__(self, index: int | slice) -> Floats | tuple[Floats, ...]:
        return (self.W, self.b, self.c)[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        names = (self.visible, self.hidden, self.kernel) == (other.visible, other.hidden, other.kernel)
        arrays = zip((*self, self.edges), (*other, other.edges), strict=True)
        return names and all(np.array_equal(mine, theirs) for mine, theirs in arrays)

    def __hash__(self) -> int:
        arrays = tuple((array + 0.0).tobytes() for array in self)  # -0.0 equals 0.0
        return hash((self.W.shape, arrays, self.edges.tobytes(), self.visible, self.hidden, self.kernel))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew, for NumPy would make their arrays writeable."""
        return _made_again, (self.W, self.b, self.c, self.visible, self.hidden, self.kernel, self.mask)

    def __repr__(self) -> str:
        fields = f"fields up to {max(np.abs(self.b).max(), np.abs(self.c).max()):.3g}" if self.has_fields else "no fields"
        spins = f"{self.n_visible} visible + {self.n_hidden} hidden spins"
        some = "" if self.mask is None else f"{self.n_couplings} of {self.W.size} "
        return f"Model({spins}, {some}couplings up to {np.abs(self.W).max():.3g}, {fields})"

    def _repr_html_(self) -> str:
        """W with the names and fields of its rows and columns; of a large model the first of them. Couplings that do not exist are dots."""
        rows, columns = min(self.n_visible, SHOWN), min(self.n_hidden, SHOWN)
        grid = [["", *_shown(self.hidden, "h", columns)]]
        cells = np.where(self.edges.reshape(self.W.shape), np.vectorize(_number, otypes=[object])(self.W), "\N{MIDDLE DOT}")
        grid += [[name, *row[:columns]] for name, row in zip(_shown(self.visible, "v", rows), cells, strict=False)]
        if self.has_fields:
            for line, cell in zip(grid, ["b", *map(_number, self.b)], strict=False):
                line.insert(1, cell)
            grid.append(["c", "", *map(_number, self.c[:columns])])
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in grid)
        omitted = "" if (rows, columns) == self.W.shape else f"<p>rows 1 to {rows} and columns 1 to {columns}</p>"
        return f"<p>{escape(repr(self))}</p><table>{body}</table>{omitted}"


ModelLike = Model | ArrayLike


def as_model(W: ModelLike, b: ArrayLike | None = None, c: ArrayLike | None = None) -> Model:
    """The arguments (W, b, c) of a public function as one model; a Model is handed on as it is.

    Raises
    ------
    ValueError
        As :class:`Model`, or fields beside a Model, which has its own.
    """
    if not isinstance(W, Model):
        return Model(W, b, c)
    for name, field in (("b", b), ("c", c)):
        if field is not None:
            raise ValueError(f"{name} must not be given beside a Model, which has fields of its own; use Model(model.W, b, c)")
    return W


def _made_again(
    W: Floats,
    b: Floats,
    c: Floats,
    visible: tuple[Label, ...] | None,
    hidden: tuple[Label, ...] | None,
    kernel: str | None,
    mask: Mask | None = None,
) -> Model:
    return Model(W, b, c, visible=visible, hidden=hidden, kernel=kernel, mask=mask)


def _as_mask(mask: ArrayLike | None, weights: Floats) -> Mask | None:
    """Which of the couplings exist, or None where all of them do."""
    if mask is None:
        return None
    found = as_array(mask, "mask", "an array of booleans")
    if found.dtype != np.bool_:
        raise ValueError(f"mask must hold booleans, True where a coupling exists; got dtype {found.dtype}")
    if found.shape != weights.shape:
        raise ValueError(f"mask must have the shape of W, {weights.shape}; got shape {found.shape}")
    if not found.any():
        raise ValueError("mask must leave at least one coupling; it is False everywhere")
    for i, j in np.argwhere(~found & (weights != 0.0))[:1]:
        raise ValueError(f"W must be zero where mask is False; entry ({i}, {j}) is {weights[i, j]:g}")
    if found.all():
        return None
    own = np.array(found, order="C")  # the caller may go on with it in place
    own.flags.writeable = False
    return own


def _as_names(names: Any, n_spins: int, argument: str) -> tuple[Label, ...] | None:
    if names is None:
        return None
    found = arguments.as_labels(names, argument)
    if len(found) != n_spins:
        raise ValueError(f"{argument} must name each of the {n_spins} {argument} spins; got {len(found)} names")
    if len(set(found)) != n_spins:
        raise ValueError(f"{argument} must name every spin by a name of its own; got {arguments.in_brief(found)}")
    return found


def _shown(names: tuple[Label, ...] | None, letter: str, count: int) -> list[str]:
    return [f"{letter}{k}" if names is None else str(names[k]) for k in range(count)]


def _number(value: float) -> str:
    return f"{value:.4g}"


def require_finite_energies(model: Model) -> None:
    """ValueError where an energy, or a difference of two, could lie beyond float64."""
    with np.errstate(over="ignore"):
        if not np.isfinite(4.0 * sum(np.abs(part).sum() for part in model)):
            raise ValueError(
                f"W, b and c must give finite energies and differences of them; the largest coupling is {np.abs(model.W).max():g}"
            )
