"""A command in several processes: one leads, the others train with it and touch nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from distill.cli import main
from distill.runs import Run, write_json
from distill.together import _follow, _lead, follows, run_together
from students import Released, read_tensors
from tests.parallel_examples import ROOT, free_port

# LayerNorm, not BatchNorm, whose statistics are of each process's rows
# without the bias of the keys, which changes no output: its gradient is rounding alone, and Adam
# makes steps of that as large as of any other
STUDENT = """
[student]
name = "timm/vit_tiny_patch16_224"
options = { embed_dim = 16, depth = 1, num_heads = 2, patch_size = 8, qkv_bias = false }
factor = 64
epochs = 3
baselines = true
"""


class Others:
    """Stands for the World: says which trainings begin, and records what the leader says."""

    rank = 1

    def __init__(self, *trainings: bool) -> None:
        self.trainings = list(trainings)
        self.ended = False

    def training_begins(self) -> bool:
        return self.trainings.pop(0)

    def announce_end(self) -> None:
        self.ended = True


def test_a_follower_takes_part_in_every_training_and_then_leaves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[list[str]] = []

    def run(words: list[str]) -> int:
        seen.append(words)
        raise Released

    world: Any = Others(True, True, False)
    assert _follow(world, run, ["train-student", "--overwrite", "--run", "x"]) == 0
    assert seen == [["train-student", "--quiet", "--run", "x"]] * 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("code", "expected"), [(2, 2), (0, 1)])
def test_a_follower_that_finds_no_training_ends_all(
    capsys: pytest.CaptureFixture[str], code: int, expected: int
) -> None:
    world: Any = Others(True, True)
    assert _follow(world, lambda _: code, ["run"]) == expected
    assert ("nothing to train where process 0 trains" in capsys.readouterr().err) == (code == 0)


def test_the_leader_lets_the_others_go_however_it_ends() -> None:
    world: Any = Others()
    assert _lead(world, lambda words: len(words), ["a", "b"]) == 2
    assert world.ended
    world = Others()

    def fails(words: list[str]) -> int:
        raise KeyError(words[0])

    with pytest.raises(KeyError):
        _lead(world, fails, ["a"])
    assert world.ended


def test_alone_a_command_is_run_as_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run_together(lambda words: words.index("--overwrite"), ["run", "--overwrite"]) == 1
    assert not follows()


def test_processes_that_cannot_meet_are_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_together(lambda _: 0, ["run"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("distill: WORLD_SIZE is 2, but the other processes cannot be found (")
    assert told.count("\n") == 1


def test_a_follower_neither_locks_nor_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    with FileLock(tmp_path / ".lock"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        with run.locked():
            write_json(tmp_path / "a.json", {})
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    monkeypatch.setenv("RANK", "0")
    with run.locked():
        write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param("torch.distributed.run --standalone --nproc-per-node 2 -m --", id="torchrun"),
        pytest.param(
            "accelerate.commands.launch --multi_gpu --num_processes 2 "
            "--main_process_port {port} -m",
            id="accelerate",
        ),
    ],
)
def test_a_launcher_trains_the_students_that_one_process_trains(
    run_copy: Path, tmp_path: Path, launcher: str
) -> None:
    """All three, anew over finished ones; what is written and said is one process's."""
    (tmp_path / "student.toml").write_text(STUDENT)
    words = ["train-student", "--config", str(tmp_path / "student.toml"), "--run"]
    assert main([*words, str(run_copy), "--quiet"]) == 0
    shutil.copytree(run_copy, tmp_path / "again")
    launch = [sys.executable, "-m", *launcher.format(port=free_port()).split(), "distill"]
    found = subprocess.run(
        [*launch, *words, str(tmp_path / "again"), "--overwrite", "--json"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    students = json.loads(found.stdout)["students"]
    assert len(students) == 3
    for student in students:
        ours, theirs = (
            run / "students" / student["name"] for run in (run_copy, tmp_path / "again")
        )
        assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())
        first, second = (
            (folder / "metrics.jsonl").read_text().splitlines() for folder in (ours, theirs)
        )
        assert len(first) == len(second) == 3
        assert first != second  # trained, not copied: the seconds are others
        here, there = (read_tensors(folder / "student.safetensors")[0] for folder in (ours, theirs))
        assert here.keys() == there.keys() != set()
        for name, tensor in here.items():
            torch.testing.assert_close(there[name], tensor, rtol=1e-4, atol=1e-4, msg=name)
