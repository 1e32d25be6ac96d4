"""How long work tells the user where it stands; stages know this protocol and no terminal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


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
