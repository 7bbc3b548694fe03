"""Samples of spins as a result: traces, tables, ArviZ's tree, and the states of thrml and the chains of rbms, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermokernels.common import arguments, memory
from thermokernels.common.error_state import default_error_state
from thermokernels.common.foreign_arrays import as_array
from thermokernels.common.results import Result, required
from thermokernels.model.importers import attributes_of, from_rbms, units_of_rbms


@dataclass(frozen=True, eq=False, repr=False)
class Samples(Result):
    """Spins of many independent chains, made by :func:`sample`, or read from the states of thrml and the chains of rbms.

    Attributes
    ----------
    visible, hidden : (n_records, n_chains, n_v) and (n_records, n_chains, n_h) int8 spins +1 and -1
        If ``packed``, (n_records, n_chains, ceil(n / 8)) uint8 instead: spin i is bit i % 8 of byte i // 8, and spin = 1 - 2 * bit.
    sweeps : (n_records,) int64
        Sweeps from the start to each record, burn-in included.
    seed : numpy.random.SeedSequence, or None of another library's samples
        Handed back as ``seed``, with the same arguments, it gives the same samples.
    kernel : its name
    n_visible, n_hidden : numbers of spins
    packed : whether the spins are packed
    """

    _facts = (
        "kernel",
        "n_visible",
        "n_hidden",
        "packed",
        "sweeps",
        "visible",
        "hidden",
    )

    visible: NDArray[Any]
    hidden: NDArray[Any]
    sweeps: NDArray[np.int64]
    seed: np.random.SeedSequence | None
    kernel: str
    n_visible: int
    n_hidden: int
    packed: bool

    @default_error_state
    def unpacked(self) -> Samples:
        """The same samples as int8 spins.

        Raises
        ------
        ModelTooLargeError
            They do not fit into memory; the message says what they would take.
        """
        if not self.packed:
            return self
        n_states = self.visible.shape[0] * self.visible.shape[1]
        memory.require(n_states * (self.n_visible + self.n_hidden), f"{n_states} unpacked samples", "unpack fewer records at a time")
        visible, hidden = unpack(self.visible, self.n_visible), unpack(self.hidden, self.n_hidden)
        return replace(self, visible=visible, hidden=hidden, packed=False)

    @default_error_state
    def trace(self) -> NDArray[np.int8]:
        """The spins as ArviZ and emcee's users lay traces out: (n_chains, n_records, N) int8, visible spins first.

        Examples
        --------
        >>> import thermokernels as tk
        >>> tk.sample([[0.5], [0.1]], n_chains=4, n_sweeps=10, packed=True, seed=0).trace().shape
        (4, 10, 3)
        """
        spins = self.unpacked()
        together: NDArray[np.int8] = np.concatenate([spins.visible, spins.hidden], axis=2).swapaxes(0, 1)
        return together

    @default_error_state
    def to_datatree(self) -> Any:
        """The samples as ArviZ's DataTree: its group ``posterior`` holds the spins by (chain, draw, spin).

        Needs the package arviz-base; ModuleNotFoundError where it is missing. The coordinate ``sweep`` of the draws counts sweeps from the
        start; the kernel is an attribute.
        """
        base = required("arviz_base", "a DataTree", "arviz-base")
        spins = self.unpacked()
        tree = base.from_dict(
            {"posterior": {"visible": spins.visible.swapaxes(0, 1), "hidden": spins.hidden.swapaxes(0, 1)}},
            dims={"visible": ["visible_spin"], "hidden": ["hidden_spin"]},
            coords={"visible_spin": range(self.n_visible), "hidden_spin": range(self.n_hidden)},
            attrs={"/": {"kernel": self.kernel}},
            check_conventions=False,  # more chains than draws are as good
        )
        tree["posterior"] = tree["posterior"].to_dataset().assign_coords(sweep=("draw", self.sweeps))
        return tree

    @classmethod
    @default_error_state
    def from_thrml(cls, states: Any, schedule: Any = None) -> Samples:
        """What ``thrml.sample_states`` returns, for the two colours of a graph: the block that is resampled first is visible.

        Parameters
        ----------
        states : two arrays of bools, of shape (n_samples, n) of one chain or (n_chains, n_samples, n) of a ``vmap`` over keys
        schedule : the ``SamplingSchedule`` of the run, optional
            Its first record follows ``n_warmup`` sweeps, the others ``steps_per_sample`` sweeps each; without it one a sweep, from zero on.

        Raises
        ------
        ValueError
            Not two arrays of bools of such shapes, or another number of records than the schedule's.

        Examples
        --------
        >>> import numpy as np, thermokernels as tk
        >>> states = [np.ones((5, 3), bool), np.zeros((5, 2), bool)]  # in place of thrml.sample_states(...)
        >>> samples = tk.Samples.from_thrml(states)
        >>> samples, samples.trace()[0, -1].tolist()
        (Samples(5 records of 1 chains, 3 visible + 2 hidden spins, alternating), [1, 1, 1, -1, -1])
        """
        blocks = [as_array(block, "states", "two arrays of bools") for block in states] if isinstance(states, list | tuple) else []
        shapes = [block.shape for block in blocks]
        if (
            len(blocks) != 2
            or {block.dtype.kind for block in blocks} != {"b"}
            or shapes[0][:-1] != shapes[1][:-1]
            or len(shapes[0]) not in (2, 3)
        ):
            raise ValueError(
                "states must be the two arrays of bools that thrml samples for the two colours of a graph, (n_samples, n) or (n_chains, "
                f"n_samples, n) each; got {', '.join(f'{block.dtype} {block.shape}' for block in blocks) or arguments.in_brief(states)}"
            )
        visible, hidden = (np.where(block.reshape(-1, *block.shape[-2:]), np.int8(1), np.int8(-1)).swapaxes(0, 1) for block in blocks)
        sweeps = np.arange(len(visible))
        if schedule is not None:
            names = ("n_warmup", "n_samples", "steps_per_sample")
            warmup, n_samples, steps = map(int, attributes_of(schedule, names, "schedule", "a SamplingSchedule of thrml"))
            if n_samples != len(visible):
                raise ValueError(f"schedule must be that of the states, which have {len(visible)} records; it has {n_samples}")
            sweeps = warmup + steps * sweeps
        return cls._of_scans(visible, hidden, sweeps)

    @default_error_state
    def to_thrml(self) -> list[NDArray[np.bool_]]:
        """The samples as thrml keeps them: two arrays (n_chains, n_records, n) of bools, True for spin +1, the visible spins first.

        ``[block[:, -1] for block in samples.to_thrml()]`` is a start for as many chains, ``init_state_free`` of ``sample_states`` under
        ``vmap`` where the spins are in the order of the nodes of the two blocks, as those of ``from_thrml(ebm, blocks=...)`` are.

        Examples
        --------
        >>> import thermokernels as tk
        >>> [block.shape for block in tk.sample([[0.5], [0.1]], n_chains=4, n_sweeps=10, seed=0).to_thrml()]
        [(4, 10, 2), (4, 10, 1)]
        """
        spins = self.unpacked()
        return [np.ascontiguousarray(layer.swapaxes(0, 1) > 0) for layer in (spins.visible, spins.hidden)]

    @classmethod
    @default_error_state
    def from_rbms(cls, chains: Any, params: Any) -> Samples:
        """The parallel chains of the package ``rbms``, one record, or several of a sequence of them, a sweep apart.

        Parameters
        ----------
        chains : dict with ``visible`` (n_chains, n_v) and ``hidden`` (n_chains, n_h), tensors on any device, or a list of such dicts
        params : the machine that they are of, which says whether its units are 0 and 1 (``BBRBM``) or spins (``IIRBM``)

        Raises
        ------
        ValueError
            No such machine or chains, or units that are not the machine's.

        Examples
        --------
        >>> import numpy as np, thermokernels as tk
        >>> from types import SimpleNamespace  # in place of a machine
        >>> params = SimpleNamespace(name="BBRBM", weight_matrix=np.zeros((3, 2)), vbias=np.zeros(3), hbias=np.zeros(2))
        >>> tk.Samples.from_rbms({"visible": np.ones((4, 3)), "hidden": np.zeros((4, 2))}, params)
        Samples(1 records of 4 chains, 3 visible + 2 hidden spins, alternating)
        """
        model, units = from_rbms(params), units_of_rbms(params)
        records = list(chains) if isinstance(chains, list | tuple) else [chains]
        layers = []
        for name, n_units in (("visible", model.n_visible), ("hidden", model.n_hidden)):
            found = [as_array(record[name], f"chains[{name!r}]") for record in records if isinstance(record, Mapping) and name in record]
            shapes = {array.shape for array in found}
            if not found or len(found) < len(records) or len(shapes) > 1 or found[0].ndim != 2 or found[0].shape[1] != n_units:
                raise ValueError(
                    f"chains must be those of rbms, with {name} of shape (n_chains, {n_units}) by the machine; got "
                    f"{', '.join(map(str, sorted(shapes))) or arguments.in_brief(chains)}"
                )
            values = np.stack(found)
            layers.append(arguments.as_spins(2.0 * values - 1.0 if units == "zero-one" else values, f"chains[{name!r}] as spins"))
        if layers[0].shape[1] != layers[1].shape[1]:
            raise ValueError(f"chains must be as many in both layers; got {layers[0].shape[1]} and {layers[1].shape[1]}")
        return cls._of_scans(layers[0], layers[1], np.arange(len(records)))

    @default_error_state
    def to_rbms(self, params: Any, record: int = -1) -> dict[str, Any]:
        """One record as the chains of a machine of the package ``rbms``: what its ``sample_state`` goes on from.

        A dict of tensors of the type and on the device of ``params.weight_matrix``: ``visible`` and ``hidden`` in the units of the machine,
        ``visible_mag`` and ``hidden_mag``, their means given the other layer, and ``weights``, all one. Needs PyTorch;
        ModuleNotFoundError where it is missing.

        Raises
        ------
        ValueError
            No such machine, or one of other numbers of units.
        """
        model, spins = from_rbms(params), self.unpacked()
        if (model.n_visible, model.n_hidden) != (self.n_visible, self.n_hidden):
            raise ValueError(
                f"params must be a machine of {self.n_visible} visible and {self.n_hidden} hidden units; got {model.n_visible} and "
                f"{model.n_hidden}"
            )
        torch, zero_one = required("torch", "chains of rbms", "torch"), units_of_rbms(params) == "zero-one"
        like = {"dtype": params.weight_matrix.dtype, "device": params.weight_matrix.device}
        v, h = spins.visible[record].astype(np.float64), spins.hidden[record].astype(np.float64)
        values = {"visible": v, "hidden": h, "visible_mag": np.tanh(h @ model.W.T + model.b), "hidden_mag": np.tanh(v @ model.W + model.c)}
        chains = {name: torch.tensor((1 + value) / 2 if zero_one else value, **like) for name, value in values.items()}
        return chains | {"weights": torch.ones(len(v), **like)}

    @classmethod
    def _of_scans(cls, visible: NDArray[np.int8], hidden: NDArray[np.int8], sweeps: NDArray[np.int64]) -> Samples:
        """Of another library that scans alternately."""
        sizes = visible.shape[-1], hidden.shape[-1]
        return cls(np.ascontiguousarray(visible), np.ascontiguousarray(hidden), sweeps, None, "alternating", *sizes, packed=False)

    def _columns(self) -> tuple[dict[str, Any], list[str]]:
        """A row a chain and draw, a column a spin."""
        trace = self.trace()
        chains, draws = np.indices(trace.shape[:2])
        names = [*(f"v{i}" for i in range(self.n_visible)), *(f"h{j}" for j in range(self.n_hidden))]
        spins = dict(zip(names, trace.reshape(-1, len(names)).T, strict=True))
        return {"chain": chains.ravel(), "draw": draws.ravel(), **spins}, ["chain", "draw"]

    def __repr__(self) -> str:
        n_records, n_chains = self.visible.shape[:2]
        spins = f"{self.n_visible} visible + {self.n_hidden} hidden spins"
        return f"Samples({n_records} records of {n_chains} chains, {spins}{', packed' if self.packed else ''}, {self.kernel})"


def unpack(octets: NDArray[np.uint8], n_spins: int) -> NDArray[np.int8]:
    """Spins of packed ones."""
    spins = np.unpackbits(octets, axis=-1, count=n_spins, bitorder="little").view(np.int8)
    spins *= -2
    spins += 1
    return spins
