"""What the machine offers: cores, memory, disk, a network route. Nothing outside is called.

In a container the container's own limits count, not the whole machine's.
"""

import os
import shutil
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")
UNKNOWN = 4 * 10**9  # bytes assumed free where the machine does not say


def cores() -> int:
    """Cores this process may use: its affinity, cut by a container's quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = _text(CGROUP / "cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):
        allowed = min(allowed, -(-int(quota) // int(period)))
    return max(allowed, 1)


def memory() -> tuple[int, int]:
    """Bytes in all and bytes still free, cut by a container's limit; (0, 0) where unknown."""
    total, free = _system_memory()
    limit = _text(CGROUP / "memory.max") or _text(CGROUP / "memory/memory.limit_in_bytes")
    used = _text(CGROUP / "memory.current") or _text(CGROUP / "memory/memory.usage_in_bytes")
    if limit.isdecimal() and used.isdecimal() and (not total or int(limit) < total):
        # what the container holds of the page cache is given back on demand
        given_back = _cgroup_file_pages()
        total = int(limit)
        room = max(total - int(used) + given_back, 0)
        free = min(free, room) if free else room
    return total, free


def half_of_free() -> int:
    """Bytes that one piece of work may hold: half of what is free."""
    return (memory()[1] or UNKNOWN) // 2


def _system_memory() -> tuple[int, int]:
    found = {}
    for line in _text(PROC / "meminfo").splitlines():
        name, _, amount = line.partition(":")
        number = amount.split()[:1]
        if number and number[0].isdecimal():
            found[name] = int(number[0]) * 1024
    if "MemTotal" in found:
        return found["MemTotal"], found.get("MemAvailable", found.get("MemFree", 0))
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):  # not a Unix, or not told there
        return 0, 0


def _cgroup_file_pages() -> int:
    for line in _text(CGROUP / "memory.stat").splitlines():
        name, _, amount = line.partition(" ")
        if name == "inactive_file" and amount.isdecimal():
            return int(amount)
    return 0


def free_disk(folder: Path) -> int:
    """Bytes free where ``folder`` lies or would be made."""
    return shutil.disk_usage(existing(folder)).free


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def has_route() -> bool | None:
    """Whether there is a way out: a proxy, or a default route; None where it cannot be told."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    routes = _text(PROC / "net" / "route")
    six = _text(PROC / "net" / "ipv6_route")
    if not routes and not six:
        return None
    if any(line.split()[1:2] == ["00000000"] for line in routes.splitlines()[1:]):
        return True
    return any(
        line.startswith("0" * 32 + " 00 ") and not line.rstrip().endswith(" lo")
        for line in six.splitlines()
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
