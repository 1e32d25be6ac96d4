"""Ranks that were tried, a line each in a file: what a kill leaves of them is not tried again."""

import glob
import json
import math
from collections import UserDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distill.config import fingerprint
from distill.whole import whole

UNTRIED = {"ranks", "candidates", "floor", "probe"}  # settings that change no damage


class TriedRanks(UserDict[tuple[int, str, int], float]):
    """Damages by batch, layer and rank, as ``students.nested.sensitivities`` finds them.

    A line that a kill cut short is dropped, and what stands after one that cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file: Path | None = None  # while they are read, none is written
        super().__init__(_read(file))
        if file.exists():
            with whole(file) as scratch:
                scratch.write_text("".join(_line(*each) for each in self.items()))
        self._file = file

    def __setitem__(self, key: tuple[int, str, int], damage: float) -> None:
        """Keep it, in the file too."""
        super().__setitem__(key, damage)
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as file:
                file.write(_line(key, damage))


@contextmanager
def tried_ranks(folder: Path, made_by: Mapping[str, Any]) -> Iterator[TriedRanks]:
    """Those of one network and its calibration; other settings have a file of their own.

    All are forgotten when all went well. They lie beside the folder, which need not be there yet.
    """
    decisive = {name: value for name, value in made_by.items() if name not in UNTRIED}
    yield TriedRanks(folder.with_name(f".{folder.name}.tried-{fingerprint(decisive)}.jsonl"))
    forget_tried(folder)


def forget_tried(folder: Path) -> None:
    """Remove what was tried for the network of this folder."""
    for file in folder.parent.glob(f".{glob.escape(folder.name)}.tried-*.jsonl"):
        file.unlink(missing_ok=True)  # another process may be first


def _read(file: Path) -> dict[tuple[int, str, int], float]:
    found = {}
    if file.is_file():
        with suppress(ValueError, TypeError, OverflowError):
            for line in file.read_bytes().splitlines(keepends=True):
                batch, layer, rank, damage = json.loads(line)
                if not line.endswith(b"\n") or not math.isfinite(damage):
                    break
                found[int(batch), str(layer), int(rank)] = float(damage)
    return found


def _line(key: tuple[int, str, int], damage: float) -> str:
    return f"{json.dumps([*key, damage])}\n"
