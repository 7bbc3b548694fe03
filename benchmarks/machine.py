"""What every benchmark prints first: the machine and the versions. Not a benchmark itself."""

import statistics
import time
from collections.abc import Callable

import llvmlite.binding

from thermokernels_app.experiment.records.environment import environment


def print_machine() -> None:
    """Two lines: processor, cores and system; versions of Python and the packages."""
    here = environment()
    print(f"{here['cpu']} ({llvmlite.binding.get_host_cpu_name()}), {here['cores']} cores, {here['platform']}")
    print(f"python {here['python']}, " + ", ".join(f"{name} {version}" for name, version in here["packages"].items()))


def spread(seconds: list[float]) -> str:
    """Median and range of some times."""
    return f"{statistics.median(seconds):.3g} s ({min(seconds):.3g} to {max(seconds):.3g}, {len(seconds)} runs)"


def settled(function: Callable[[], object], seconds: float) -> float:
    """Seconds of a call, the mean over consecutive ones that last so long: caches and branches as a caller finds them who goes on."""
    calls, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        function()
        calls += 1
    return passed / calls
