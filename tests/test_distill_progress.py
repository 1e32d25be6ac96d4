"""What a user sees of a training while it goes on."""

import io
from typing import Any

import pytest
from rich.console import Console

from distill.bars import Bars
from distill.progress import SILENT, LiveTraining

ENTRY = {"epoch": 3, "loss": 0.123456, "validation_accuracy": 0.815, "rows_per_second": 1234.5}


class Recorder:
    """A bar and a progress in one."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.details: list[str] = []

    def __call__(self, by: int) -> None:
        del by

    def show(self, text: str) -> None:
        self.shown.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)

    def say(self, text: str) -> None:
        raise AssertionError(text)

    def task(self, label: str, *, total: int, unit: str) -> Any:
        raise AssertionError(label, total, unit)


def test_the_line_says_the_loss_now_and_the_last_validation() -> None:
    seen = Recorder()
    live = LiveTraining(seen, seen)
    live.loss(2.5)
    live.epoch(ENTRY | {"knn_accuracy": 0.75})
    live.loss(0.1)
    assert seen.shown == [
        "loss 2.5",
        "loss 0.1235, validation accuracy 81.5%, k-NN 75.0%",
        "loss 0.1, validation accuracy 81.5%, k-NN 75.0%",
    ]
    assert seen.details == [
        "epoch 3: loss 0.1235, validation accuracy 81.5%, k-NN 75.0%, 1234 rows/s"
    ]


def test_where_there_is_no_bar_and_no_neighbours_a_line_an_epoch_is_left() -> None:
    seen = Recorder()
    live = LiveTraining(seen, lambda _: None)
    live.loss(2.5)
    live.epoch(ENTRY)
    assert seen.shown == []
    assert seen.details == ["epoch 3: loss 0.1235, validation accuracy 81.5%, 1234 rows/s"]


def test_a_terminal_shows_it_beside_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    bars = Bars(verbose=False, quiet=False)
    console = Console(file=screen, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(bars, "_console", console)
    with bars.task("a student", total=10, unit="rows") as bar:
        live = LiveTraining(bars, bar)
        bar(4)
        live.epoch(ENTRY | {"knn_accuracy": 0.75})
    said = screen.getvalue()
    for part in ("a student", "4/10", "loss 0.1235, validation accuracy 81.5%, k-NN 75.0%"):
        assert part in said


def test_nothing_is_shown_to_who_wants_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with SILENT.task("a student", total=10, unit="rows") as bar:
        LiveTraining(SILENT, bar).epoch(ENTRY)
    with Bars(verbose=True, quiet=True).task("a student", total=10, unit="rows") as bar:
        LiveTraining(Bars(verbose=True, quiet=True), bar).epoch(ENTRY)
    assert capsys.readouterr() == ("", "")
