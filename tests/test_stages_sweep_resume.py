"""A sweep cut short: what was finished is kept, and the end is the same."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distill.findings import Sweep
from distill.progress import Silent
from distill.sweeping import maps
from projections import Moments, fit_projections
from stores import open_splits
from tests.sweep_examples import cells_of, data, stores_of, swept, timeless

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("pca", "head-svd")


class Interrupting(Silent):
    """Presses Ctrl-C after so many cells."""

    def __init__(self, cells: int) -> None:
        self.left = cells

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        del label, total, unit

        def advance(cells: int) -> None:
            self.left -= cells
            if cells and self.left <= 0:
                raise KeyboardInterrupt

        yield advance


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file under the sweep, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "sweep").rglob("*.*"))
    }


def times_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("sweep/*/*/*.json")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sweep]:
    """A sweep that nothing cut short."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, swept(stores_of(folder, data()), folder, kinds=KINDS)


@pytest.mark.parametrize("cells", [1, 4, 8])
def test_interrupted_anywhere_it_ends_the_same(
    tmp_path: Path, whole: tuple[Path, Sweep], cells: int
) -> None:
    folder, found = whole
    stores = stores_of(tmp_path, data())
    with pytest.raises(KeyboardInterrupt):
        swept(stores, tmp_path, kinds=KINDS, progress=Interrupting(cells))
    before = times_of(tmp_path)
    assert len(before) == cells
    resumed = swept(stores, tmp_path, kinds=KINDS)
    assert timeless(resumed) == timeless(found)
    assert files_of(tmp_path) == files_of(folder)
    after = times_of(tmp_path)
    assert {name: after[name] for name in before} == before  # none was made again


SWEEP_SLOWLY = """
import sys, time
from pathlib import Path
from typing import Any
from distill.findings import Record
from distill.sweeping import maps
from projections import Moments, fit_projections
from stores import open_splits
from tests.sweep_examples import swept

folder = Path(sys.argv[1])
save = Record.save

def slowly(self, path):
    print("saving", flush=True)
    time.sleep(0.03)
    save(self, path)
    time.sleep(0.03)

Record.save = slowly
swept(open_splits(folder / "features.zarr"), folder, kinds=("pca", "head-svd"))
"""


def test_killed_it_ends_the_same(tmp_path: Path, whole: tuple[Path, Sweep]) -> None:
    folder, found = whole
    stores_of(tmp_path, data())
    command = [sys.executable, "-c", SWEEP_SLOWLY, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        for _ in range(3):
            assert running.stdout.readline() == b"saving\n"
        time.sleep(random.Random().uniform(0, 0.06))  # before its write, within it, or after
        os.kill(running.pid, signal.SIGKILL)
    kept = {name: c for name, c in cells_of(tmp_path).items() if name.endswith(".json")}
    assert len(kept) in {2, 3, 4}
    resumed = swept(open_splits(tmp_path / "features.zarr"), tmp_path, kinds=KINDS)
    assert timeless(resumed) == timeless(found)
    assert files_of(tmp_path) == files_of(folder)
    assert {name: cells_of(tmp_path)[name] for name in kept} == kept


def test_what_cannot_be_read_is_made_again(tmp_path: Path, whole: tuple[Path, Sweep]) -> None:
    folder, found = whole
    shutil.copytree(folder, tmp_path / "copy")
    for name in ("cells/full-k24-s0.safetensors", "cells/pca-k4-s0.json", "test/pca-k4-s0.json"):
        (path,) = (tmp_path / "copy").glob(f"sweep/*/{name}")
        path.write_bytes(b"{")
    stores = open_splits(tmp_path / "copy/features.zarr")
    assert timeless(swept(stores, tmp_path / "copy", kinds=KINDS)) == timeless(found)
    assert files_of(tmp_path / "copy") == files_of(folder)


def test_a_missing_width_is_fitted_by_the_same_decomposition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = stores_of(tmp_path, data())
    swept(stores, tmp_path, kinds=("pca",), factors=(2, 6), seeds=1)
    (path,) = tmp_path.glob("sweep/*/cells/pca-k4-s0.json")
    path.unlink()
    asked: list[Sequence[int]] = []
    fit = fit_projections

    def seen(kind: str, moments: Moments, dims: Sequence[int], **more: Any) -> tuple[Any, ...]:
        asked.append(dims)
        return fit(kind, moments, dims, **more)

    monkeypatch.setattr(maps, "fit_projections", seen)
    swept(stores, tmp_path, kinds=("pca",), factors=(2, 6), seeds=1)
    assert [max(dims) for dims in asked] == [12]  # its last bits depend on how far it goes


def test_other_features_have_cells_of_their_own(tmp_path: Path, whole: tuple[Path, Sweep]) -> None:
    shutil.copytree(whole[0] / "sweep", tmp_path / "sweep")
    swept(stores_of(tmp_path, data(seed=1)), tmp_path, kinds=("gaussian",), seeds=1)
    assert len(list((tmp_path / "sweep").iterdir())) == 2
