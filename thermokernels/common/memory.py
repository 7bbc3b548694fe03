"""What memory there is for a computation, and a refusal before anything is allocated where that is not enough.

A container or a batch job has less than the machine: what the control groups of Linux leave this process. Kernel documentation,
admin-guide/cgroup-v2.rst (memory.max, memory.current) and cgroup-v1/memory.rst (memory.limit_in_bytes, memory.usage_in_bytes). A group is
bound by its own limit and by those of all groups above it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path

from thermokernels.common.errors import ModelTooLargeError

# (limit, usage, cached file pages that the kernel gives back on demand)
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


# Version 1 writes "no limit" as the largest number of pages.
NO_LIMIT = 2**62


def available() -> int:
    """Bytes of memory that this process may still take: what the system, and the control groups of a container, leave it."""
    limit = headroom()
    return _system_memory() if limit is None else min(limit, _system_memory())


def _system_memory() -> int:
    """What the system calls available, or else its physical memory."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def require(n_bytes: int, what: str, instead: str) -> None:
    """Raise ModelTooLargeError, before anything is allocated, where ``n_bytes`` do not fit."""
    there = available()
    if n_bytes > there:
        raise ModelTooLargeError(f"{what} would take {readable(n_bytes)} of memory and {readable(there)} are available; {instead}")


def readable(n_bytes: int) -> str:
    """Whole MiB, at least one, or GiB with three digits."""
    if n_bytes < 2**30:
        return f"{max(1, round(n_bytes / 2**20))} MiB"
    return f"{Decimal(n_bytes) / 2**30:.3g} GiB"  # a float overflows at a thousand spins


def headroom(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes until the tightest limit of this process's control groups; None where there is no limit, or no control groups."""
    return min((room for limit in _limits(root, membership) if (room := _room(*limit)) is not None), default=None)


@cache
def _limits(root: Path, membership: Path) -> list[tuple[int, Path, str, str]]:
    """The limits that were set when the process first asked: bytes, folder, and what says how much of them is used and cached."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [limit for line in lines for limit in _limits_of(root, line)]


def _limits_of(root: Path, line: str) -> Iterator[tuple[int, Path, str, str]]:
    """Of one line ``number:controllers:path``, the limits of the group and of those above it."""
    number, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if number == "0" and not controllers:
        bases, (limit_name, usage_name, cached_name) = (root, root / "unified"), VERSION_2
    elif "memory" in controllers.split(","):
        bases, (limit_name, usage_name, cached_name) = (root / "memory", root / controllers), VERSION_1
    else:
        return
    for base in dict.fromkeys(bases):
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            try:
                limit = int((group / limit_name).read_text())  # "max" is no number: no limit
            except (OSError, ValueError):
                limit = NO_LIMIT
            if limit < NO_LIMIT:
                yield limit, group, usage_name, cached_name
            if group == base:
                break


def _room(limit: int, group: Path, usage_name: str, cached_name: str) -> int | None:
    try:
        usage = int((group / usage_name).read_text())
        entries = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(entries.get(cached_name, 0))
    except (OSError, ValueError):
        return None
    return max(0, limit - max(0, usage - cached))
