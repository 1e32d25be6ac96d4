"""The record of a training: one JSON line an epoch, and the same figures for TensorBoard.

The checkpoint's history is what counts. On resuming, the lines are written again from it, so
that an epoch stands there once however often it was killed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

METRICS = "metrics.jsonl"
BOARD = "tensorboard"


class Journal:
    """A context manager; ``write`` one line after each epoch."""

    def __init__(self, folder: Path, *, history: Sequence[Mapping[str, Any]], step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS
        scratch = self._path.with_name(f".{METRICS}.partial")
        scratch.write_text("".join(_line(entry) for entry in history))
        scratch.replace(self._path)
        self._board = _writer(folder / BOARD, purge_from=step + 1 if history else 0)

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
        for name, value in entry.items():
            if isinstance(value, float):
                self._board.add_scalar(name, value, int(entry["step"]))
        self._board.flush()


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"


def _writer(folder: Path, *, purge_from: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    # what a killed run wrote after its last checkpoint is hidden by the purge
    return SummaryWriter(str(folder), purge_step=purge_from or None)
