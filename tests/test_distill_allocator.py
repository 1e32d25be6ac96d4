import subprocess
import sys

import pytest

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")

HELD = """
import sys
import numpy as np
from contextlib import nullcontext
from distill.allocator import memory_kept

def held():
    status = open("/proc/self/status").read()
    return int(status.split("RssAnon:")[1].split()[0]) >> 10

def work():
    for _ in range(5):
        np.empty(200 << 20, dtype=np.uint8).fill(1)  # above 32 MB: mapped anew by glibc's habit

before = held()
with memory_kept() if sys.argv[1] == "kept" else nullcontext():
    work()
    inside = held()
after = held()
work()
print(inside - before, after - before, held() - before)
"""


def held_megabytes(how: str) -> list[int]:
    """What stays with the process of 200 MB that were freed: inside, after, and after more work."""
    command = [sys.executable, "-c", HELD, how]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) for word in found.stdout.split()]


@linux
def test_freed_memory_is_kept_inside_once_and_given_back_after() -> None:
    assert max(held_megabytes("plain")) < 20
    inside, after, later = held_megabytes("kept")
    assert 180 < inside < 220
    assert max(after, later) < 20


@linux
def test_an_error_inside_ends_it_too() -> None:
    from distill import allocator

    seen: list[dict[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allocator, "_set", lambda _, thresholds: seen.append(thresholds))
        with pytest.raises(ZeroDivisionError), allocator.memory_kept():
            1 / 0  # noqa: B018
    assert seen == [allocator.KEPT, allocator.USUAL]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from distill import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(allocator, "_set", lambda *_: pytest.fail("touched"))
    with allocator.memory_kept():
        pass
