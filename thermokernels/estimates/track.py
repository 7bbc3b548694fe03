"""Q along a training: one row a checkpoint, exact where states can be enumerated, estimated from coupled chains elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from thermokernels.common import arguments
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.errors import NumericalError
from thermokernels.common.results import Line, Result, html_table
from thermokernels.estimates.estimate import as_effort, as_key, estimate_q
from thermokernels.estimates.problem import model_of
from thermokernels.estimates.result import QEstimate
from thermokernels.estimates.statistics.intervals import Interval, three_digits
from thermokernels.model.chain import gibbs_chain
from thermokernels.model.conversions import law_of_samples
from thermokernels.model.kernels.registry import KERNELS, as_kernel
from thermokernels.model.laws import kl_divergence
from thermokernels.model.model import Model
from thermokernels.quantities.pseudo_likelihood import pseudo_likelihood
from thermokernels.quantities.signal_to_noise import chain_q_struct, q_struct

# Models of no more spins than this are answered exactly, in seconds a checkpoint: 2**14 states, or one layer of the alternating scan.
EXACT_SPINS, ALTERNATING_SPINS = 14, 20
# The divergence of the data's law from the model's is exact for as many visible spins.
DIVERGENCE_SPINS = 16

Progress = Callable[[int, int], object]


@dataclass(frozen=True, repr=False)
class TrackedModel(Result):
    """One checkpoint of a training.

    Attributes
    ----------
    name : of the checkpoint: its epoch, or what the history calls it
    value, interval : Q at the window, and where it lies (of an exact one: within its proven bound; of an estimate: with 95 %)
    t_obs, t_obs_interval : T_O in steps of the kernel
    signal : |g|^2
    window_for_unit_q : the window in sweeps for Q = 1
    kl : KL(data || model) in nats, or NaN where there are too many visible spins for it
    pseudo_likelihood : of the data, in nats a sample
    method : "exact" or "estimated"
    trusted, reason : whether the numbers can be believed, and why not
    shortfall : as of :class:`thermokernels.QEstimate`, of a ``precision`` that was not reached
    """

    _lines = (
        Line("value", "value", interval="interval"),
        Line("t_obs", "t_obs", "steps", interval="t_obs_interval"),
        Line("signal", "signal"),
        Line("window_for_unit_q", "window_for_unit_q", "sweeps"),
        Line("kl", "kl", "nats"),
        Line("pseudo_likelihood", "pseudo_likelihood", "nats"),
    )
    _facts = (
        "name",
        "method",
        "trusted",
        "reason",
        "shortfall",
    )

    name: str
    value: float
    interval: Interval
    t_obs: float
    t_obs_interval: Interval
    signal: float
    window_for_unit_q: float
    kl: float
    pseudo_likelihood: float
    method: str
    trusted: bool
    reason: str
    shortfall: str


@dataclass(frozen=True, eq=False, repr=False)
class Track(Result):
    """Q along a training, made by :func:`track` or by a :class:`Tracker`.

    Attributes
    ----------
    rows : tuple of TrackedModel
    window : in sweeps; kernel : whose records the window holds
    """

    _facts = (
        "window",
        "kernel",
        "rows",
        "sentences",
    )

    rows: tuple[TrackedModel, ...]
    window: float
    kernel: str

    @property
    def sentences(self) -> tuple[str, ...]:
        """Where the window is too short, in plain words."""
        return tuple(_sentences(self.rows, self.window))

    def _columns(self) -> tuple[dict[str, Any], str]:
        frame = {field.name: [getattr(row, field.name) for row in self.rows] for field in fields(TrackedModel)}
        for name in ("interval", "t_obs_interval"):
            ends = frame.pop(name)
            frame |= {f"{name}_low": [low for low, _ in ends], f"{name}_high": [high for _, high in ends]}
        return frame, "name"

    def _repr_html_(self) -> str:
        rows = [
            [
                row.name,
                *(reading.digits for reading in row._readings()),
                row._readings()[0].certainty,
                row.method,
                "yes" if row.trusted else "no",
            ]
            for row in self.rows
        ]
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return f"<ul>{said}</ul>" + html_table(
            ("checkpoint", *(line.name for line in TrackedModel._lines), "Q from", "how", "trusted"), rows
        )

    def __repr__(self) -> str:
        trusted = sum(row.trusted for row in self.rows)
        return f"Track({len(self.rows)} checkpoints, {trusted} trusted, window of {self.window:g} sweeps, {self.kernel})"


@default_error_state
def track(
    history: Any,
    data: ArrayLike,
    window: float = 100.0,
    kernel: str = "alternating",
    *,
    precision: float | None = None,
    budget: float | None = None,
    n_replicates: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Track:
    """Q, T_O and the window that is needed at every checkpoint of a training.

    Parameters
    ----------
    history : (T, n_v, n_h) couplings, a sequence of models or tuples (W, b, c), or a mapping from names to them
    data : (n, n_v) samples of spins +1 and -1
    window, kernel : as in :func:`thermokernels.estimate_q`
    precision, budget, n_replicates, executor : of the estimate of each checkpoint that is too large to be enumerated; the budget in seconds
    seed : the same for every checkpoint, so that neighbours differ by their models and not by their random numbers
    progress : called as ``progress(done, total)`` after each checkpoint

    Raises
    ------
    ValueError
        Bad arguments; the checkpoint is named.

    Examples
    --------
    >>> import numpy as np, thermokernels as tk
    >>> history = np.linspace(0, 2, 3)[:, None, None] * np.eye(2)
    >>> found = tk.track(history, [[1, 1], [-1, -1], [1, -1]], kernel="single-site")
    >>> [row.method for row in found.rows], found.rows[0].t_obs < found.rows[2].t_obs
    (['exact', 'exact', 'exact'], True)
    """
    named = _named(history)
    tracker = Tracker(
        data, window, kernel, precision=precision, budget=budget, n_replicates=n_replicates, seed=seed, executor=executor
    )  # fmt: skip
    for done, (name, model) in enumerate(named):
        tracker(model, name)
        if progress is not None:
            progress(done + 1, len(named))
    return tracker.track


class Tracker:
    """A callback for a training of one's own: call it with the model after an epoch, and read :attr:`track`.

    Parameters are those of :func:`track`; ``every`` looks at one call in so many.

    Examples
    --------
    >>> import numpy as np, thermokernels as tk
    >>> tracker = tk.Tracker([[1, 1], [-1, -1]], window=10, kernel="single-site", every=2)
    >>> for epoch in range(4):
    ...     _ = tracker(0.5 * epoch * np.eye(2))
    >>> [row.name for row in tracker.track.rows]
    ['0', '2']
    """

    def __init__(
        self,
        data: ArrayLike,
        window: float = 100.0,
        kernel: str = "alternating",
        *,
        every: int = 1,
        precision: float | None = None,
        budget: float | None = None,
        n_replicates: int | None = None,
        seed: int = 0,
        executor: Executor | None = None,
    ) -> None:
        self.samples = arguments.as_samples(data, "data")
        self.window = arguments.as_positive(window, "window", "sweeps")
        self.kernel = as_kernel(kernel).name
        self.every = arguments.as_count(every, "every")
        as_effort(precision, budget, n_replicates)
        as_key(seed)
        self.options: dict[str, Any] = {
            "precision": precision, "budget": budget, "n_replicates": n_replicates, "seed": seed, "executor": executor,
        }  # fmt: skip
        self._rows: list[TrackedModel] = []
        self._calls = 0
        self._last: QEstimate | None = None

    @property
    def track(self) -> Track:
        """What has been seen so far."""
        return Track(tuple(self._rows), self.window, self.kernel)

    def __call__(self, model: Any, name: object | None = None) -> TrackedModel | None:
        """Look at a model (a Model, couplings, or (W, b, c)), called ``name`` or by its number; None where it is passed over."""
        number = self._calls
        self._calls += 1
        if number % self.every:
            return None
        name = str(number if name is None else name)
        try:
            row = self._look_at(model_of(model), name)
        except ValueError as error:
            raise ValueError(f"checkpoint {name}: {error}") from None
        self._rows.append(row)
        return row

    def _look_at(self, model: Model, name: str) -> TrackedModel:
        if self.samples.shape[1] != model.n_visible:
            raise ValueError(f"data must have a column for each of the {model.n_visible} visible spins; got shape {self.samples.shape}")
        law = law_of_samples(self.samples) if model.n_visible <= DIVERGENCE_SPINS else None
        common: dict[str, Any] = {
            "name": name,
            "kl": math.nan if law is None else float(kl_divergence(law, model)),
            "pseudo_likelihood": pseudo_likelihood(model, self.samples),
        }
        exact = self._exact(model, law)
        return TrackedModel(**common, **(self._estimated(model) if exact is None else exact))

    def _exact(self, model: Model, law: Floats | None) -> dict[str, Any] | None:
        """The numbers by enumeration, or None where the chain is too large or extremely slow."""
        alternating = KERNELS[self.kernel].by_layers
        if law is None or model.n_spins > (ALTERNATING_SPINS if alternating else EXACT_SPINS):
            return None
        try:
            if alternating:
                q = q_struct(model, law, self.window, kernel=self.kernel)
            else:
                q = chain_q_struct(gibbs_chain(model, kernel=self.kernel), law, self.window)
        except NumericalError:
            return None
        return {
            "value": q.value,
            "interval": (q.value - q.bound, q.value + q.bound),
            "t_obs": q.t_obs,
            "t_obs_interval": (q.t_obs - q.t_obs_bound, q.t_obs + q.t_obs_bound),
            "signal": q.signal,
            "window_for_unit_q": self.window / q.value if q.value > 0 else math.inf,
            "method": "exact",
            "trusted": True,
            "reason": "",
            "shortfall": "",
        }

    def _estimated(self, model: Model) -> dict[str, Any]:
        estimate = estimate_q(model, self.samples, self.window, self.kernel, like=self._last, **self.options)
        self._last = estimate
        names = ("value", "interval", "t_obs", "t_obs_interval", "signal", "window_for_unit_q", "trusted", "reason", "shortfall")
        return {name: getattr(estimate, name) for name in names} | {"method": "estimated"}


def _named(history: Any) -> list[tuple[str, Any]]:
    """The models of a history by their names."""
    if isinstance(history, Mapping):
        found = [(str(name), model) for name, model in history.items()]
    elif isinstance(history, np.ndarray) and history.ndim != 3:
        raise ValueError(f"history must have shape (T, n_v, n_h), one model a checkpoint; got shape {history.shape}")
    elif isinstance(history, (str, bytes, Model)) or not isinstance(history, Iterable):
        raise ValueError(f"history must be an array (T, n_v, n_h), a sequence of models or a mapping; got {arguments.in_brief(history)}")
    else:
        found = [(str(number), model) for number, model in enumerate(history)]
    if not found:
        raise ValueError("history must hold at least one model; it holds none")
    return found


def _sentences(rows: tuple[TrackedModel, ...], window: float) -> Iterator[str]:
    """When the window becomes too short, when it is long enough again, and what could not be trusted."""
    known = [row for row in rows if row.trusted]
    if known and all(row.value >= 1 for row in known):
        least = three_digits(min(row.value for row in known))
        yield f"{window:g} sweeps are enough at every checkpoint that can be trusted: Q is at least {least}."
    short = False
    for row in known:
        if (row.value < 1) is not short:
            short = not short
            needed = (
                f"{three_digits(row.window_for_unit_q)} are needed" if math.isfinite(row.window_for_unit_q) else "no window is long enough"
            )
            yield (
                f"From checkpoint {row.name} on {window:g} sweeps are too few (Q = {three_digits(row.value)}): {needed}."
                if short
                else f"From checkpoint {row.name} on {window:g} sweeps are enough again (Q = {three_digits(row.value)})."
            )
    for row in rows:
        if not row.trusted:
            yield f"Checkpoint {row.name} is not trusted: {row.reason}."
        elif row.shortfall:
            yield f"Checkpoint {row.name} has not the precision that was asked for: {row.shortfall}."
