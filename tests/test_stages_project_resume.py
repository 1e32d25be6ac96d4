"""Projecting stores cut short or done in another order: always the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from distill.progress import Silent
from distill.stages import project as stage
from distill.stages.project import project
from stores import FeatureStore
from tests.project_examples import CHUNK, ROWS, bytes_in, sources_in, targets_in

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of two source chunks each, so that small data has many."""
    monkeypatch.setattr(stage, "MOST_CHUNK_ROWS", 2 * CHUNK + 1)


@pytest.mark.usefixtures("small_chunks")
def test_bytes_do_not_depend_on_what_else_is_made(tmp_path: Path) -> None:
    sources = sources_in(tmp_path)
    project(sources, targets_in(tmp_path / "together"), progress=Silent())
    alone = targets_in(tmp_path / "alone", (8,))
    project(sources, alone, progress=Silent())
    added = targets_in(tmp_path / "alone")
    assert project(sources, added, progress=Silent()) == 3 * sum(ROWS.values())
    assert bytes_in(tmp_path / "alone") == bytes_in(tmp_path / "together")


class Interrupting(Silent):
    """Presses Ctrl-C after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        del label, total, unit

        def advance(rows: int) -> None:
            self.left -= rows > 0
            if rows and self.left == 0:
                raise KeyboardInterrupt

        yield advance


def test_after_an_error_blas_has_its_threads_again(tmp_path: Path) -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info()]

    sources, before = sources_in(tmp_path), threads()
    with pytest.raises(KeyboardInterrupt) as kept:  # its traceback keeps the frames alive
        project(sources, targets_in(tmp_path), progress=Interrupting(3))
    assert kept.tb is not None
    assert threads() == before


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("steps", [1, 2, 3, 9, 14, 15, 17])
def test_interrupted_anywhere_it_ends_as_the_same_bytes(tmp_path: Path, steps: int) -> None:
    sources = sources_in(tmp_path)
    project(sources, targets_in(tmp_path / "whole"), progress=Silent())
    with pytest.raises(KeyboardInterrupt):
        project(sources, targets_in(tmp_path / "cut"), progress=Interrupting(steps))
    written = project(sources, targets_in(tmp_path / "cut"), progress=Silent())
    # two source chunks make one of a target: what is whole is kept, one on its way is redone
    kept = 20 * (min(steps, 14) // 2) if steps < 14 else ROWS["train"]
    kept += {15: 0, 16: 20, 17: 27}.get(steps, 0)
    assert written == 4 * (sum(ROWS.values()) - kept)
    assert bytes_in(tmp_path / "cut") == bytes_in(tmp_path / "whole")


PROJECT_SLOWLY = """
import sys, time
from pathlib import Path
from distill.progress import Silent
from distill.stages import project as stage
from stores import StoreWriter, open_splits
from projections import make_projection

folder = Path(sys.argv[1])
stage.MOST_CHUNK_ROWS = 21
write = StoreWriter.write

def slowly(self, index, **rows):
    print("chunk", flush=True)
    time.sleep(float(sys.argv[2]))
    write(self, index, **rows)

StoreWriter.write = slowly
targets = [
    stage.Target(f"k{k}", 24 / k, make_projection("gaussian", dim_in=24, dim_out=k, seed=0),
                 folder / f"k{k}.zarr")
    for k in (12, 6, 3, 1)
]
stage.project(open_splits(folder.parent / "features.zarr"), targets, progress=Silent())
"""


def test_killed_twice_it_ends_as_the_same_bytes(tmp_path: Path) -> None:
    sources = sources_in(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "MOST_CHUNK_ROWS", 21)
        project(sources, targets_in(tmp_path / "whole"), progress=Silent())
    rng = np.random.default_rng()
    for chunks in (3, 13):
        command = [sys.executable, "-c", PROJECT_SLOWLY, str(tmp_path / "cut"), "0.05"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            for _ in range(chunks):
                assert running.stdout.readline() == b"chunk\n"
            time.sleep(rng.uniform(0, 0.06))  # it is asleep, computing, or within a write
            os.kill(running.pid, signal.SIGKILL)
    written = project_resumed(sources, tmp_path / "cut")
    assert 0 < written < 4 * sum(ROWS.values())
    assert bytes_in(tmp_path / "cut") == bytes_in(tmp_path / "whole")


def project_resumed(sources: dict[str, FeatureStore], folder: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "MOST_CHUNK_ROWS", 21)
        return project(sources, targets_in(folder), progress=Silent())


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_number_of_cores_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    sources = sources_in(tmp_path)
    project(sources, targets_in(tmp_path / "here"), progress=Silent())
    monkeypatch.setattr("distill.side_by_side.cores", lambda: count)
    project(sources, targets_in(tmp_path / "there"), progress=Silent())
    assert bytes_in(tmp_path / "there") == bytes_in(tmp_path / "here")
