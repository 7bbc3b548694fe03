"""The screen of ``thermo doctor``."""

from __future__ import annotations

from typing import Any

from thermokernels.common.memory import readable
from thermokernels_app.report.screens.layout import print_fact


def print_findings(found: dict[str, Any]) -> None:
    """The findings as lines, problems last."""
    machine, memory, cache = found["machine"], found["memory"], found["cache"]
    print_fact("versions", ", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    print_fact("machine", f"{machine['cpu'] or 'unknown processor'} ({machine['llvm_cpu']} to LLVM), {machine['cores']} cores")
    print_fact("system", f"{machine['platform']}")
    headroom = memory["cgroup_headroom_bytes"]
    allowance = "no limit of a control group" if headroom is None else f"its control groups leave {readable(headroom)}"
    print_fact("memory", f"{readable(memory['available_bytes'])} available, {allowance}")
    libraries = ", ".join(f"{pool['library']} {pool['version']}, {pool['threads']} threads" for pool in found["blas"])
    print_fact("blas", libraries or "unknown")
    print_fact("workers", f"started by {found['start_method']}")
    folder = (
        f"{cache['folder']}, writable, {cache['kernels']} kernels, " + readable(cache["bytes"])
        if cache["writable"]
        else "none can be written"
    )
    print_fact("cache", f"{folder}")
    for extra, packages in found["extras"].items():
        absent = [name for name, number in packages.items() if number is None]
        present = ", ".join(f"{name} {number}" for name, number in packages.items() if number is not None)
        note = f"; without {', '.join(absent)}: pip install '.[{extra}]'" if absent else ""
        print_fact("extra", f"{extra}: {present or 'nothing installed'}{note}")
    for name, answer in found["canary"]["answers"].items():
        print_fact("kernels", f"{name} {answer['value']:.12g}, known {answer['expected']:.12g}, relative error {answer['error']:.1e}")
    for problem in found["problems"]:
        print_fact("problem", f"{problem}")
    print("healthy" if not found["problems"] else "not healthy")
