"""What a nest loses when it ends while ranks are tried, and what it must not touch: nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.nesting import Subject
from distill.progress import Silent
from students import CheckpointError
from students import nested as n
from students.checkpoint import read_tensors, write_tensors
from tests.nest_examples import IMAGES, TEXTS, image_subject, nested, text_subject

DIES = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from distill.progress import Silent
from tests.nest_examples import image_subject, nested

class Dies(Silent):
    @contextmanager
    def task(self, label, *, total, unit):
        left = [7 if label == "try ranks" else total + 1]
        def advance(amount):
            left[0] -= amount
            if left[0] <= 0:
                os.kill(os.getpid(), 9)
        yield advance

nested(image_subject(), Path(sys.argv[1]), progress=Dies(), overwrite=sys.argv[2] == "overwrite")
"""


class Counts(Silent):
    """Calls of a network while its ranks are tried, of which ``stop`` is the last one."""

    def __init__(self, subject: Subject, *, stop: int = 0) -> None:
        self.stop = stop
        self.calls, self.told = 0, 0
        self.tries = False
        subject.network.register_forward_hook(lambda *_: self._count())

    def _count(self) -> None:
        self.calls += self.tries
        if self.calls == self.stop > 0:
            raise KeyboardInterrupt

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        del unit
        self.tries = label == "try ranks"
        yield lambda amount: setattr(self, "told", self.told + amount * self.tries)
        assert not self.tries or self.told == total
        self.tries = False


def tries(subject: Subject, folder: Path, **told: Any) -> int:
    """Nest, and say how often the network was asked while ranks were tried."""
    counts = Counts(subject)
    nested(subject, folder, progress=counts, **told)
    return counts.calls


def kill(folder: Path, how: str = "") -> None:
    told = [sys.executable, "-c", DIES, str(folder), how]
    assert subprocess.run(told, env={**os.environ}).returncode == -signal.SIGKILL


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def hidden(folder: Path) -> list[Path]:
    return [file for file in folder.parent.iterdir() if file.name.startswith(".")]


def test_killed_while_ranks_are_tried_it_goes_on_with_the_next(tmp_path: Path) -> None:
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    kill(folder)
    (tried,) = hidden(folder)
    assert len(tried.read_text().splitlines()) == 6  # and one pass of the full network
    assert tries(image_subject(), folder) == tries(image_subject(), whole) - 6
    for file in ("start.safetensors", "nested.safetensors"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes()
    assert hidden(folder) == []


@pytest.mark.parametrize("how", ["killed", "interrupted", "floor", "budget", "biases"])
def test_what_ends_before_there_is_another_network_leaves_that_which_was_there(
    tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "nested"
    nested(image_subject(), folder, epochs=1)
    before = files(folder)
    again: dict[str, Any] = {"folder": folder, "overwrite": True}
    if how == "killed":
        kill(folder, "overwrite")
    elif how == "interrupted":
        subject = image_subject()
        with pytest.raises(KeyboardInterrupt):
            nested(subject, progress=Counts(subject, stop=5), **again)
    elif how == "biases":
        texts: dict[str, Any] = {"data": TEXTS, "include": ("embedding",), "own_biases": True}
        with pytest.raises(n.NestedError, match="no nested layer of this network can have biases"):
            nested(text_subject(tmp_path), **again, **texts)
    else:
        low: dict[str, Any] = {"floor": 1e-4} if how == "floor" else {"budgets": (1e-4,)}
        with pytest.raises(n.BudgetError, match="ask for at least"):
            nested(image_subject(), **again, **low)
    assert files(folder) == before
    assert tries(image_subject(), folder, epochs=1) == 0  # it is nested already
    assert files(folder) == before
    if how == "killed":  # the same command goes on
        whole = tries(image_subject(), tmp_path / "whole")
        assert tries(image_subject(), **again) == whole - 6
    else:
        nested(image_subject(), **again)
    assert files(folder).keys() == before.keys()
    assert files(folder)["nested.safetensors"] != before["nested.safetensors"]
    assert hidden(folder) == []


@pytest.mark.parametrize("low", [{"floor": 1e-4}, {"budgets": (1e-4,)}])
def test_ranks_that_were_tried_are_not_tried_again_for_another_floor(
    tmp_path: Path, low: dict[str, Any]
) -> None:
    with pytest.raises(n.BudgetError, match="ask for at least"):
        nested(image_subject(), tmp_path / "nested", **low)
    assert tries(image_subject(), tmp_path / "nested") == 0
    assert hidden(tmp_path / "nested") == []


def test_a_table_alone_has_no_biases_which_is_said_before_ranks_are_tried(tmp_path: Path) -> None:
    subject = text_subject(tmp_path)
    counts = Counts(subject)
    told: dict[str, Any] = {"data": TEXTS, "include": ("embedding",), "own_biases": True}
    with pytest.raises(n.NestedError, match="can have biases of its ranks' own"):
        nested(subject, tmp_path / "nested", progress=counts, **told)
    assert counts.told == 0


@pytest.mark.parametrize("stop", [12, 0])
def test_of_other_data_or_preparation_nothing_is_taken_over(tmp_path: Path, stop: int) -> None:
    """Neither ranks that were tried nor, where they all were, the start."""
    other = replace(IMAGES, fingerprint="other data")
    whole = tries(image_subject(), tmp_path / "whole")
    folder, subject = tmp_path / "cut", image_subject()

    class Stops(Counts):
        def detail(self, text: str) -> None:
            if text.startswith("epoch 1"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nested(subject, folder, progress=Stops(subject, stop=stop))
    larger = image_subject()
    larger = replace(larger, card={**larger.card, "preprocessing": {"size": 64}})
    if stop:
        for one, data in ((image_subject(), other), (larger, IMAGES)):
            assert tries(one, folder, data=data, overwrite=True) == whole
        return
    for one, data, name in ((image_subject(), other, "dataset"), (larger, IMAGES, "preprocessing")):
        with pytest.raises(CheckpointError, match=f"was made with {name} = "):
            nested(one, folder, data=data)
    nested(image_subject(), folder)
    for one, data, name in ((image_subject(), other, "dataset"), (larger, IMAGES, "preprocessing")):
        with pytest.raises(CheckpointError, match=f"was made with {name} = "):
            nested(one, folder, data=data)


def test_files_of_before_do_not_say_what_they_were_prepared_by_and_are_taken(
    tmp_path: Path,
) -> None:
    nested(image_subject(), tmp_path)
    before = files(tmp_path)["nested.safetensors"]
    for name in ("start.safetensors", "nested.safetensors"):
        tensors, state = read_tensors(tmp_path / name)
        for untold in ("preprocessing", "dataset")[: 2 if name.startswith("start") else 1]:
            del state["card"]["made_by"][untold]
        write_tensors(tmp_path / name, tensors, state)
    assert tries(image_subject(), tmp_path) == 0
    (tmp_path / "nested.safetensors").unlink()
    assert tries(image_subject(), tmp_path) == 0
    assert files(tmp_path)["nested.safetensors"] == before
