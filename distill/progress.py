"""How long work tells the user where it stands; stages know this protocol and no terminal."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Where a stage says what it is doing."""

    def task(
        self, label: str, *, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar of ``total`` units; the callable moves it forward by that many."""
        ...

    def say(self, text: str) -> None:
        """One line the user should see: what was decided, dropped or skipped."""
        ...

    def detail(self, text: str) -> None:
        """One line for a user who asked for more (``-v``)."""
        ...


@runtime_checkable
class Showing(Protocol):
    """What ``task`` opens, where there is room for words beside the bar."""

    def show(self, text: str) -> None:
        """Say this until something else is said."""
        ...


def shortly(seconds: float) -> str:
    """A duration in words, to a figure or two."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Silent:
    """Says nothing: the default of the Python functions."""

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """No bar."""
        del label, total, unit
        yield lambda _: None

    def say(self, text: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""


SILENT = Silent()


class LiveTraining:
    """A training as it goes on: beside its bar at once, and a line an epoch for ``-v``."""

    def __init__(self, progress: Progress, bar: object) -> None:
        self._progress = progress
        self._bar = bar
        self._loss = ""
        self._validation = ""

    def loss(self, mean: float) -> None:
        """Of the epoch so far."""
        self._loss = f"loss {mean:.4g}"
        self._show()

    def epoch(self, entry: Mapping[str, Any]) -> None:
        """One line of metrics."""
        self._loss = f"loss {entry['loss']:.4g}"
        self._validation = _validation(entry)
        self._show()
        self._progress.detail(
            f"epoch {entry['epoch']}: loss {entry['loss']:.4f}, {self._validation}, "
            f"{entry['rows_per_second']:.0f} rows/s"
        )

    def _show(self) -> None:
        if isinstance(self._bar, Showing):
            self._bar.show(", ".join(part for part in (self._loss, self._validation) if part))


def _validation(entry: Mapping[str, Any]) -> str:
    said = f"validation accuracy {entry['validation_accuracy']:.1%}"
    near = entry.get("knn_accuracy")
    return said if near is None else f"{said}, k-NN {near:.1%}"
