"""The grid from Python, in an executor of one's own: here threads, since the kernels release the GIL; a cluster's works as well.

Anything with the interface of ``concurrent.futures.Executor`` will do, and the records are the same bits whichever it is.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from thermokernels_app.experiment.design import Grid, load_design
from thermokernels_app.experiment.running.runner import run


def main() -> None:
    design = replace(load_design("smoke"), grid=Grid(m=(4,), split=(2,)))  # the anchor's network alone: 16 cells
    with ThreadPoolExecutor(max_workers=2) as threads:
        result = run(design, executor=threads)  # out="folder" keeps results.json and arrays.npz
    print(f"{len(result.document['cells'])} cells, exit code {result.exit_code}")
    for name, verdict in result.document["verdicts"].items():
        print(f"{name} {verdict['verdict']}  {verdict['reason'] or verdict['statement']}")
    print("checkpoint  code          Q   T_O (sweeps)   relevant gap (per step)   W[0, 0]")
    for cell in result.document["cells"]:
        if cell["checkpoint"] in ("half", "final"):
            weights = result.arrays[f"m4/s2/{cell['checkpoint']}/code{cell['code']}/W"]
            print(
                f"{cell['checkpoint']:10s}  {cell['code']:4d}  {cell['q']['value']:9.3g}   {cell['q']['t_obs_steps'] / 8:12.2f}"
                f"   {cell['spectrum']['relevant_gap']:23.3e}   {weights[0, 0]:7.3f}"
            )


if __name__ == "__main__":
    main()
