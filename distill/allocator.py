"""Keep freed memory for the next batch, where the C library would hand it back to the system.

glibc returns large blocks (above 32 MB always, smaller ones often) to the system as soon as they
are freed, so a network's activations are paged in anew for every batch. Where page faults are
dear, as in virtual machines and containers, that takes most of the time: MobileNetV2 at 224 px
runs three times as fast with the memory kept (``python -m benchmarks extract``).
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# from glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

KEPT = {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: (1 << 31) - 1}  # bytes; a C int at most
# where glibc's own, moving thresholds end up once a large block has been freed
USUAL = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}


@contextmanager
def memory_kept() -> Iterator[None]:
    """Reuse freed memory of this process and of those forked meanwhile; give it back at the end.

    Peak memory is no higher, it only stays at its peak. Does nothing without glibc.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _set(libc, KEPT)
    try:
        yield
    finally:
        _set(libc, USUAL)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _set(libc: ctypes.CDLL, thresholds: dict[int, int]) -> None:
    for parameter, value in thresholds.items():
        libc.mallopt(parameter, value)  # 0 where it refuses: slower, never wrong
