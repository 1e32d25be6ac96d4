"""A progress that remembers, for tests of what a stage says."""

from collections.abc import Iterator
from contextlib import contextmanager


class Told:
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps = 0

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator:
        del label, total, unit

        def advance(by: int) -> None:
            self.steps += by

        yield advance

    def say(self, text: str) -> None:
        self.said.append(text)

    def detail(self, text: str) -> None:
        del text
