"""What ``--overwrite`` replaces is there, whole and in use, until its successor is finished."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import distill
from distill.progress import SILENT, Progress, Silent
from tests.cli_examples import Command, refused

Work = Callable[[Path, Progress, bool, int], Any]


class Hears(Silent):
    """Keeps what it is told, and interrupts where it is told of ``stop``."""

    def __init__(self, stop: str = "never") -> None:
        self.stop = stop
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.detail(text)

    def detail(self, text: str) -> None:
        self.heard.append(text)
        if text.startswith(self.stop):
            raise KeyboardInterrupt

    def has(self, start: str) -> bool:
        return any(text.startswith(start) for text in self.heard)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def teach(run: Path, progress: Progress, overwrite: bool, epochs: int) -> None:
    distill.train_teacher(run, epochs=epochs, progress=progress, overwrite=overwrite)


def learn(run: Path, progress: Progress, overwrite: bool, epochs: int) -> None:
    distill.train_student(
        run, factor=4, baselines=False, epochs=epochs, progress=progress, overwrite=overwrite
    )


def compare(run: Path, progress: Progress, overwrite: bool, epochs: int) -> None:
    told: dict[str, Any] = {"methods": ["labels"], "trials": 1, "seeds": 1, "factor": 4}
    distill.compare_students(run, epochs=epochs, progress=progress, overwrite=overwrite, **told)


@pytest.mark.parametrize(
    ("work", "place", "stop", "done", "left"),
    [
        (teach, "teacher", "epoch 1", "epoch 1", "epoch 2"),
        (learn, "students", "epoch 1", "epoch 1", "epoch 2"),
        (compare, "compare", "labels, seed 1", "labels, trial 1", "labels, seed 1"),
    ],
)
def test_interrupted_the_old_one_stays_and_the_same_call_goes_on_with_the_new(
    run_copy: Path, work: Work, place: str, stop: str, done: str, left: str
) -> None:
    folder = run_copy / place
    work(run_copy, SILENT, False, 1)
    before = files(folder)
    with pytest.raises(KeyboardInterrupt):
        work(run_copy, Hears(stop), True, 2)
    kept = files(folder)
    assert {name: kept[name] for name in before} == before
    assert list(run_copy.rglob("*.next"))
    hears = Hears()
    work(run_copy, hears, True, 2)
    assert not hears.has(done)
    assert hears.has(left)
    assert not list(run_copy.rglob("*.next"))
    after = files(folder)
    changed = [name for name in before if after.get(name) != before[name]]
    assert [name for name in changed if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    "words",
    [
        ("train-student", "--precision", "float16", "--device", "cpu"),
        ("train-student", "--learning-rate", "1e30"),
        ("compare-students", "--methods", "labels", "--student", "timm/resnet1000"),
        ("compare-students", "--methods", "labels", "--student-weights", "none.safetensors"),
        ("extract", "--unlabeled", "csv:texts.csv"),
    ],
)
def test_what_is_refused_takes_nothing_away(
    run_copy: Path, call: Command, words: tuple[str, ...]
) -> None:
    Path("texts.csv").write_text("text,label\na text,x\nanother,y\n" * 20)
    learn(run_copy, SILENT, False, 1)
    compare(run_copy, SILENT, False, 1)
    before = files(run_copy)
    factor = () if words[0] == "extract" else ("--factor", "4")
    refused(call(*words, *factor, "--run", run_copy, "--overwrite", "--quiet"))
    after = files(run_copy)
    assert {name for name in before if after.get(name) != before[name]} <= {"config.toml"}
