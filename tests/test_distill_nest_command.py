"""``distill nest`` on a run: without its teacher, and every wrong word as one line."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import distill
from distill.config import load_config
from distill.findings import Students
from distill.pipeline.opening import UserError
from distill.text import as_text
from students import load
from students import nested as n
from tests.cli_examples import Command, refused

BRIEF = "epochs = 1\npoints = 2\ncalibration = 16\n"
QUICK = ("--epochs", "1", "--points", "2", "--calibration", "16", "--include", "*.conv2")
STUDENT = "resnet10t-gaussian-k8-s0"


def nest(call: Command, run: Path, *words: object) -> tuple[int, str, str]:
    return call("nest", "--run", run, *QUICK, *words)


def test_a_student_is_nested_without_its_teacher_and_answers_at_a_budget(
    run_copy: Path, call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_teacher(*_: object) -> None:
        raise AssertionError("the teacher was asked for")

    monkeypatch.setattr("distill.pipeline.nesting.teacher_of", no_teacher)
    code, out, err = nest(call, run_copy, "--student", STUDENT, "--targets", "projected")
    assert code == 0, err
    assert "it learns the stored rows of gaussian-k8-s0; no teacher is needed" in err
    assert "nested 4 layers, init whitened" in err
    assert "before" in out
    (folder,) = (run_copy / "nested").iterdir()
    network = n.load(folder)
    n.set_budget(network, 0.9)
    assert n.budget_of(network) <= 0.9
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ("predict", tmp_path / "a.png", "--run", run_copy, "--student", folder.name)
    assert call(*words, "--budget", "0.9")[0] == 0
    refused(call(*words, "--budget", "0.0001"), "is below what this network can reach", "at least")
    refused(call(*words, "--budget", "0"), "a budget is a share of dense FLOPs, in (0, 1], got 0")
    refused(call(*words, "--budget", "1.5"), "in (0, 1], got 1.5")
    words = ("predict", tmp_path / "a.png", "--run", run_copy, "--student", STUDENT)
    refused(call(*words, "--budget", "0.5"), "is not nested and has no budgets")
    asked = ("predict", tmp_path / "a.png", "--run", run_copy, "--student")
    refused(call(*asked, folder.name[:-2]), "did you mean", f"nested, of any budget: {folder.name}")
    refused(call(*asked, "x.pt2"), "is a program of torch.export, which torch.export.load reads")
    assert "is nested already" in nest(call, run_copy, "--student", STUDENT)[2]
    refused_late(
        nest(call, run_copy, "--rank", "2"),
        'made with rank = "full", now it is 2; give this one a name of its own with --name, or',
    )


def test_a_nested_student_is_taught_then_nested_and_learns_the_same_rows(
    run_copy: Path, call: Command, tmp_path: Path
) -> None:
    """``nested/…`` is the student of that name, then ``distill nest`` of it, in one command."""
    config = tmp_path / "nested.toml"
    config.write_text(f"[nest]\n{BRIEF}")
    words = ("train-student", "--run", run_copy, "--config", config, "--epochs", "1")
    shutil.rmtree(run_copy / "students")
    code, out, err = call(*words, "--student", "nested/timm/resnet10t", "--json")
    assert code == 0, err
    found = Students.from_json(json.loads(out))
    assert found.students[0].name == STUDENT  # its baselines come after it
    assert found.nested is not None
    assert found.nested.of == STUDENT
    assert found.nested.name == f"{STUDENT}-mlp-convolution"
    assert "it learns the stored rows of gaussian-k8-s0" in err
    assert f"{found.nested.name}: " in as_text(found)
    taught = load(run_copy / "students" / STUDENT).network
    network = n.load(run_copy / "nested" / found.nested.name)
    torch.testing.assert_close(network.head.weight, taught.head.weight)  # of the rows' space
    n.set_budget(network, 0.8)
    assert n.budget_of(network) <= 0.8
    # what is finished is read back, and the run's own settings are as the config says
    code, out, err = call(*words, "--student", "nested/timm/resnet10t", "--json")
    assert code == 0, err
    assert Students.from_json(json.loads(out)).nested == found.nested
    assert "is nested already" in err
    assert not load_config(run_copy / "config.toml")["nest"]["student"]
    # what cannot be nested is refused before a student is taught
    for asked in ('augment = "crop"', "hint_weight = 2.0"):
        config.write_text(f"[nest]\n{BRIEF}{asked}\n")
        refused_late(
            call(*words, "--student", "nested/timm/resnet10t", "--overwrite"),
            f"nest.{asked.partition(' ')[0]}", "leave that out", "--way",
        )  # fmt: skip
    config.write_text(f'[nest]\n{BRIEF}augment = "cropp"\n')
    shutil.rmtree(run_copy / "students")
    refused_late(
        call(*words, "--student", "nested/timm/resnet10t", "--way", "sketch"), "did you mean 'crop'"
    )
    config.write_text(f'[nest]\n{BRIEF}include = ["convulution"]\n')
    refused_late(call(*words, "--student", "nested/timm/resnet10t"), "nearest: convolution")
    assert not (run_copy / "students").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--rank", "0"), ("rank must be in 1..512", "got 0")),
        (("--rank", "4096"), ("rank must be in 1..512", "got 4096")),
        (("--rank", "much"), ("nest.rank: must be a number like 64", "got 'much'")),
        (("--rank", "1.5"), ("a share of the full rank is in (0, 1], got 1.5",)),
        (("--floor", "1.5"), ("nest.floor", "less than or equal to 1", "got 1.5")),
        (("--floor", "0.00001"), ("is below what this network can reach", "ask for at least")),
        (("--include", "convulution"), ("finds no layer", "nearest: convolution")),
        (("--include", "*.conv2,!nothing"), ("'nothing' finds no layer",)),
        (("--student", "resnet10x"), ("no student named 'resnet10x'",)),
        (("--init", "magic"), ("nest.init",)),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    run_copy: Path, call: Command, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    refused_late(call("nest", "--run", run_copy, *QUICK, *words), *parts)


def test_a_refused_training_leaves_the_student_that_was_there(run_copy: Path) -> None:
    told: dict[str, Any] = {"way": "sketch", "epochs": 1, "baselines": False}
    distill.train_student(run_copy, kl_weight=1.0, **told)
    before = sorted((run_copy / "students").rglob("*.safetensors"))
    with pytest.raises(UserError, match="learns from labels or logits"):
        distill.train_student(run_copy, kl_weight=0.0, ce_weight=0.0, overwrite=True, **told)
    assert sorted((run_copy / "students").rglob("*.safetensors")) == before


def test_a_teacher_without_a_head_says_what_to_run(run_copy: Path, call: Command) -> None:
    shutil.rmtree(run_copy / "heads" / "full")
    refused(nest(call, run_copy), "has no head for digits: run `distill train-head --run")


def test_a_teacher_that_was_to_be_taught_says_what_to_run(run_copy: Path, call: Command) -> None:
    file = run_copy / "config.toml"
    file.write_text(file.read_text().replace("taught = false", "taught = true"))
    refused(nest(call, run_copy), "has not been taught yet: run `distill train-teacher")


def test_python_has_the_same_function() -> None:
    assert "largest rank of a layer" in (distill.nest.__doc__ or "")


class Twins(nn.Module):
    """Mean colours through one matrix, twice: a student of one's own whose layers are tied."""

    def __init__(self, *, dim_out: int) -> None:
        super().__init__()
        self.colours = nn.Linear(3, dim_out)
        self.first, self.second = nn.Linear(dim_out, dim_out), nn.Linear(dim_out, dim_out)
        self.second.weight = self.first.weight

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        rows: Tensor = self.colours(prepared["pixel_values"].mean(dim=(2, 3)))
        found: Tensor = self.second(self.first(rows).relu())
        return found


def test_tied_layers_are_refused_before_a_student_is_taught(
    run_copy: Path, call: Command, tmp_path: Path
) -> None:
    config = tmp_path / "twins.toml"
    config.write_text(f"[student]\noptions = {{}}\n[nest]\n{BRIEF}include = ['*first']\n")
    words = ("train-student", "--run", run_copy, "--config", config, "--epochs", "1")
    answer = call(*words, "--student", f"nested/{__name__}:Twins")
    told = "body.first.weight is tied to body.second.weight"
    refused_late(answer, told, "leave it out with '!body.first' in include")
    assert not list((run_copy / "students").glob("*Twins*"))


def refused_late(answer: tuple[int, str, str], *parts: str) -> None:
    """Exit code 2 and one line that says all of it, after whatever progress was told."""
    code, out, err = answer
    assert (code, out) == (2, ""), err
    last = err.splitlines()[-1]
    assert last.startswith("distill: ")
    for part in parts:
        assert part in last, err
