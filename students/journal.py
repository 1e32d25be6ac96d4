"""The record of a training: one JSON line an epoch, and the same figures for TensorBoard.

The checkpoint's history is what counts. On resuming, both are written again from it, so that
an epoch stands there once however often it was killed.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

METRICS = "metrics.jsonl"
BOARD = "tensorboard"


class Journal:
    """A context manager; ``write`` one line after each epoch."""

    def __init__(self, folder: Path, *, history: Sequence[Mapping[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS
        scratch = self._path.with_name(f".{METRICS}.partial")
        scratch.write_text("".join(_line(entry) for entry in history))
        scratch.replace(self._path)
        shutil.rmtree(folder / BOARD, ignore_errors=True)
        self._board = _writer(folder / BOARD)
        for entry in history:
            self._show(entry)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._board.close()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line; ``entry["step"]`` counts optimiser steps from the beginning."""
        with self._path.open("a") as file:
            file.write(_line(entry))
        self._show(entry)

    def _show(self, entry: Mapping[str, Any]) -> None:
        for name, value in entry.items():
            if isinstance(value, float):
                self._board.add_scalar(name, value, int(entry["step"]))
        self._board.flush()


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"


def _writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
