"""Progress on stderr: bars with rate and time left on a terminal, a line a minute elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from distill.progress import shortly

EVERY = 60.0  # seconds between lines where there is no terminal
SETTLED = 1.0  # from the first call; what comes earlier says nothing of the speed


class RateColumn(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        """The speed so far, empty until it is known."""
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s", style="progress.data.speed")


class Bar:
    """One open bar: call it to move it forward."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def __call__(self, advance: int) -> None:
        """Forward by so many units."""
        self._bars.update(self._task, advance=advance)

    def show(self, text: str) -> None:
        """Words behind the bar, until others come."""
        self._bars.update(self._task, words=text)


class Lines:
    """One open bar where nobody watches: a line of text each ``EVERY`` seconds, none before."""

    def __init__(self, write: Callable[[str], None], label: str, *, total: int, unit: str) -> None:
        self._write = write
        self._label = label
        self._total = total
        self._unit = unit
        self._done = 0
        self._before = 0  # what the first calls bring may be all that an earlier run had done
        self._words = ""
        self._begun = self._last = time.monotonic()

    def __call__(self, advance: int) -> None:
        """Forward by so many units."""
        now = time.monotonic()
        if not self._done:
            self._begun = now
        self._done += advance
        if now - self._begun < SETTLED:
            self._before = self._done
        if now - self._last < EVERY or self._done == self._before:
            return
        self._last = now
        rate = (self._done - self._before) / (now - self._begun)
        left = shortly(max(0, self._total - self._done) / rate)
        words = f", {self._words}" if self._words else ""
        self._write(
            f"{self._label}: {self._done:,} of {self._total:,} {self._unit}, "
            f"{rate:,.3g} {self._unit}/s, about {left} left{words}"
        )

    def show(self, text: str) -> None:
        """Words at the end of the lines, until others come."""
        self._words = text


class Bars:
    """``distill.progress.Progress`` for people."""

    def __init__(self, *, verbose: bool, quiet: bool) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._verbose = verbose
        self._quiet = quiet

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """One bar; lines of text when stderr is not a terminal."""
        if self._quiet:
            yield lambda _: None
            return
        if not self._console.is_terminal:
            yield Lines(self.say, label, total=total, unit=unit)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}", markup=False),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            yield Bar(bars, bars.add_task(label, total=total, unit=unit, words=""))

    def say(self, text: str) -> None:
        """One line, unless quiet."""
        if not self._quiet:
            self._console.print(text, markup=False)

    def detail(self, text: str) -> None:
        """One line, if verbose."""
        if self._verbose and not self._quiet:
            self._console.print(text, markup=False, style="dim")
