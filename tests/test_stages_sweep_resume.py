"""A sweep cut short: what was finished is kept, and the end is the same."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill.progress import Silent
from stores import open_splits
from tests.sweep_examples import cells_of, data, stores_of, swept, timeless

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.parametrize("cells", [1, 4, 10, 16])
def test_interrupted_anywhere_it_ends_the_same(tmp_path: Path, cells: int) -> None:
    rows = data()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    found = swept(stores_of(whole, rows), whole)
    stores = stores_of(cut, rows)
    with pytest.raises(KeyboardInterrupt):
        swept(stores, cut, progress=Interrupting(cells))
    before = times_of(cut)
    assert len(before) == cells
    resumed = swept(stores, cut)
    assert timeless(resumed) == timeless(found)
    assert files_of(cut) == files_of(whole)
    after = times_of(cut)
    assert {name: after[name] for name in before} == before  # none was made again


SWEEP_SLOWLY = """
import sys, time
from pathlib import Path
from distill.findings import Record
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


def test_killed_twice_it_ends_the_same(tmp_path: Path) -> None:
    kinds = ("pca", "head-svd")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    found = swept(stores_of(whole, data()), whole, kinds=kinds)
    stores_of(cut, data())
    kept: dict[str, bytes] = {}
    for saved, pause in ((3, 0.01), (4, 0.045)):
        command = [sys.executable, "-c", SWEEP_SLOWLY, str(cut)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            for _ in range(saved):
                while running.stdout.readline() != b"saving\n":
                    pass
            time.sleep(pause)  # before its write, or after it
            os.kill(running.pid, signal.SIGKILL)
        cells = cells_of(cut)
        assert len(cells) > len(kept)
        assert {name: cells[name] for name in kept} == kept
        kept = {name: content for name, content in cells.items() if name.endswith(".json")}
    resumed = swept(open_splits(cut / "features.zarr"), cut, kinds=kinds)
    assert timeless(resumed) == timeless(found)
    assert files_of(cut) == files_of(whole)


def test_a_cell_that_cannot_be_read_is_made_again(tmp_path: Path) -> None:
    stores = stores_of(tmp_path, data())
    found = swept(stores, tmp_path, seeds=1)
    before = files_of(tmp_path)
    for name in ("full-k24-s0.safetensors", "pca-k4-s0.json", "gaussian-k12-s0.json"):
        (path,) = tmp_path.glob(f"sweep/*/cells/{name}")
        path.write_bytes(b"{")
    assert timeless(swept(stores, tmp_path, seeds=1)) == timeless(found)
    assert files_of(tmp_path) == before


def test_other_features_have_cells_of_their_own(tmp_path: Path) -> None:
    swept(stores_of(tmp_path / "a", data()), tmp_path, seeds=1)
    swept(stores_of(tmp_path / "b", data(seed=1)), tmp_path, seeds=1)
    assert len(list((tmp_path / "sweep").iterdir())) == 2
