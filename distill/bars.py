"""Progress on a terminal: bars with rate and time left on stderr, plain lines elsewhere."""

import sys
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


class Bars:
    """``distill.progress.Progress`` for people."""

    def __init__(self, *, verbose: bool, quiet: bool) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._verbose = verbose
        self._quiet = quiet

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """One bar; none when stderr is not a terminal."""
        if self._quiet or not self._console.is_terminal:
            yield lambda _: None
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
