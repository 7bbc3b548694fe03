"""The command that draws samples of a model of your own: sample."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from thermokernels_app.commands.console import AsJson, errors
from thermokernels_app.commands.models import Convention, ModelFile, read_model

EXIT_CODES = "Exit codes: 0 drawn; 1 unexpected error; 2 bad usage or input, or more samples than memory holds; 130 interrupted"


def sample(
    model: ModelFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .npz (visible, hidden, sweeps) or .npy (visible spins, one record a row).")
    ],
    chains: Annotated[int, typer.Option("--chains", min=1, help="Independent chains.")] = 64,
    sweeps: Annotated[int, typer.Option("--sweeps", min=1, help="Sweeps of each chain after the burn-in.")] = 1000,
    burn_in: Annotated[int, typer.Option("--burn-in", min=0, help="Sweeps thrown away before.")] = 0,
    thin: Annotated[int, typer.Option("--thin", min=1, help="Sweeps between two records.")] = 1,
    kernel: Annotated[
        str, typer.Option("--kernel", help="alternating, two-block, single-site or symmetrised-alternating.")
    ] = "alternating",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed; without one, a fresh one that is named.")] = None,
    convention: Convention = None,
    as_json: AsJson = False,
) -> None:
    """Draw samples of a model of any size from many Gibbs chains.

    In .npz, visible and hidden are (chains, records, spins), the layout of ArviZ and of `thermo compare`.
    """
    with errors(as_json):
        import numpy as np

        import thermokernels as tk
        from thermokernels.common.atomic_file import replacing, require_folder

        if out.suffix not in (".npz", ".npy"):
            raise ValueError(f"--out must end in .npz or .npy; got {out.name!r}")
        require_folder(out)
        shown = 0

        def progress(done: int, total: int) -> None:
            nonlocal shown
            if shown < 4 * done // total < 4:
                shown = 4 * done // total
                print(f"{done} of {total} sweeps", file=sys.stderr)

        machine = read_model(model, convention)
        drawn = tk.sample(
            machine, n_chains=chains, n_sweeps=sweeps, burn_in=burn_in, thin=thin, kernel=kernel, seed=seed, progress=progress
        )
        visible, hidden = (np.ascontiguousarray(np.moveaxis(spins, 1, 0)) for spins in (drawn.visible, drawn.hidden))
        with replacing(out) as file:
            if out.suffix == ".npy":
                np.save(file, visible.reshape(-1, drawn.n_visible))
            else:
                np.savez(file, visible=visible, hidden=hidden, sweeps=drawn.sweeps)
        assert drawn.seed is not None  # these were drawn here
        number = drawn.seed.entropy
        found = {"out": str(out), "chains": chains, "records": len(drawn.sweeps), "kernel": kernel, "seed": number}
        if as_json:
            print(json.dumps(found))
        else:
            print(f"{out}: {len(drawn.sweeps)} records of {chains} chains, {kernel}, seed {number}")
