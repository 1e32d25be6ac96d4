"""What a user sees of a training while it goes on."""

import io
from typing import Any

import pytest
from rich.console import Console

from distill import bars
from distill.bars import Bars
from distill.progress import SILENT, LiveTraining, shortly

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
    told = Bars(verbose=False, quiet=False)
    console = Console(file=screen, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(told, "_console", console)
    with told.task("a student", total=10, unit="rows") as bar:
        live = LiveTraining(told, bar)
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


# --- where nobody watches -------------------------------------------------------------------------


class Clock:
    """Seconds as they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(bars, "time", self)

    def monotonic(self) -> float:
        return self.now


def test_without_a_terminal_there_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """600 rows in the 61 seconds since the first call: 9.84 rows/s, 9,300 left."""
    clock = Clock(monkeypatch)
    told = Bars(verbose=False, quiet=False)
    with told.task("train teacher", total=10_000, unit="rows") as bar:
        bar(100)
        clock.now += 59
        bar(300)
        assert capsys.readouterr().err == ""
        clock.now += 2
        bar(300)
        assert capsys.readouterr().err == (
            "train teacher: 700 of 10,000 rows, 9.84 rows/s, about 16 min left\n"
        )
        clock.now += 30
        LiveTraining(told, bar).loss(0.5)
        bar(300)
        assert capsys.readouterr().err == ""
        clock.now += 31
        bar(300)
        assert capsys.readouterr().err.endswith("about 15 min left, loss 0.5\n")


def test_what_an_earlier_run_had_done_says_nothing_of_the_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with Bars(verbose=False, quiet=False).task("again", total=1200, unit="rows") as bar:
        clock.now += 70  # of reading it back
        bar(900)  # the epochs that are finished
        clock.now += 0.01
        bar(100)  # and what is of the one that is not
        assert capsys.readouterr().err == ""
        clock.now += 9.99
        bar(20)
        assert capsys.readouterr().err == "again: 1,020 of 1,200 rows, 2 rows/s, about 90 s left\n"


def test_quiet_is_quiet_without_a_terminal_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with Bars(verbose=False, quiet=True).task("a student", total=10, unit="rows") as bar:
        for _ in range(3):
            clock.now += 100
            bar(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (99.4, "99 s"), (150, "2 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_durations_are_short(seconds: float, said: str) -> None:
    assert shortly(seconds) == said
