"""``distill nest`` on a run that is damaged, scarce, or nested already: a line each."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from distill.cli import main
from students import nested as n
from students import read_tensors, write_tensors
from tests.cli_examples import Command, refused

QUICK = ("--epochs", "1", "--points", "2", "--calibration", "16", "--include", "head")
STUDENT = "resnet10t-gaussian-k8-s0"


@pytest.fixture(scope="module")
def finished(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher is nested as ``last``."""
    run = Path(shutil.copytree(small_run, tmp_path_factory.mktemp("nested") / "run"))
    assert main(["nest", "--run", str(run), *QUICK, "--name", "last", "--quiet"]) == 0
    return run


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--rank", "-3"], ["rank must be in 1..10", "head", "got -3"]),
        (["--calibration", "1"], ["bn1", "one number of a channel", "2 rows at least"]),
        (["--include", "head,!head"], ["nothing is left to nest"]),
        (["--weighing", "fair"], ["nest.weighing", "'fair'"]),
        (["--sampling", "all"], ["nest.sampling", "'all'"]),
        (["--distill", "self"], ["nest.distill", "'self'"]),
        (["--targets", "logits"], ["nest.targets", "'logits'"]),
        (["--augment", "cropp"], ["no augmentation named 'cropp'", "did you mean 'crop'"]),
        (["--augment", "token-dropout"], ["token-dropout", "text"]),
        (
            ["--augment", "crop", "--targets", "projected"],
            ["leave out augment (--augment ''), or learn labels"],
        ),
        (["--mix", "mixup", "--distill", "dense"], ["mixup joins two views", "with augment"]),
        (["--mix", "blend"], ["nest.mix", "'blend'"]),
        (
            ["--mix", "cutmix", "--augment", "crop"],
            ["has no label", 'set distill to "dense"', 'mix to "none"'],
        ),
        (
            ["--mix", "mixup", "--augment", "crop", "--distill", "dense", "--kl-weight", "0"],
            ["has no label", "kl_weight above 0"],
        ),
        (["--budgets", "0.5,1.5"], ["nest.budgets", "got '1.5'"]),
        (["--budgets", "0.5", "--ranks", "2"], ["budgets or ranks, not both"]),
        (["--budgets", "0.5,0.2", "--floor", "0.3"], ["budget of 0.2 is below the floor of 0.3"]),
        (["--points", "1"], ["nest.points", "got 1"]),
        (["--epochs", "0"], ["nest.epochs", "got 0"]),
        (["--floor", "-0.1"], ["nest.floor", "got -0.1"]),
        (["--name", "last", "--include", "*.conv2"], ["made with include", "--overwrite"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_is_refused_is_one_line_and_leaves_the_run_as_it_was(
    words: list[str], parts: list[str], finished: Path, call: Command
) -> None:
    before = (finished / "config.toml").read_text()
    refused(call("nest", "--run", finished, "--quiet", "--name", "wrong", *QUICK, *words), *parts)
    assert not list((finished / "nested" / "wrong").rglob("*.safetensors"))
    assert (finished / "config.toml").read_text() == before


@pytest.mark.parametrize("budget", ["-1", "nan", "inf"])
def test_a_budget_is_a_share(budget: str, finished: Path, call: Command, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ("--run", finished, "--student", "last", "--budget", budget)
    refused(call("predict", tmp_path / "a.png", *words), "in (0, 1]", f"got {budget}")


def test_another_budget_gives_another_answer(finished: Path, call: Command, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ("predict", tmp_path / "a.png", "--run", finished, "--student", "last", "--json")
    floor = n.read_nested(finished / "nested" / "last").path.floor
    answers = [json.loads(call(*words, *at)[1]) for at in ((), ("--budget", floor))]
    whole, least = (answer["predictions"] for answer in answers)
    assert whole != least


def test_what_is_nested_is_not_nested_again(finished: Path, call: Command) -> None:
    for name in ("last", finished / "nested" / "last"):
        refused(call("nest", "--run", finished, "--student", name), "last is nested already")


def test_the_same_command_again_changes_nothing(finished: Path, call: Command) -> None:
    file = finished / "nested" / "last" / "nested.safetensors"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    code, _, err = call("nest", "--run", finished)
    assert code == 0
    assert "last is nested already" in err
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_a_network_that_gives_nan_is_refused(run_copy: Path, call: Command) -> None:
    file = run_copy / "students" / STUDENT / "student.safetensors"
    tensors, state = read_tensors(file)
    spoiled = "encoder.neck.weight"
    tensors[spoiled] = torch.full_like(tensors[spoiled], float("nan"))
    write_tensors(file, tensors, state)
    refused(call("nest", "--run", run_copy, *QUICK, "--student", STUDENT, "--quiet"), "NaN")
    assert not list((run_copy / "nested").rglob("*.safetensors"))


def test_few_calibration_rows_are_said(run_copy: Path, call: Command) -> None:
    words = ("--calibration", "2", "--name", "few")
    code, _, err = call("nest", "--run", run_copy, *QUICK, *words)
    assert code == 0, err
    assert "head: only 2 calibration rows for the 10 directions that it reads" in err
    assert "their covariance is shrunk" in err
    for tensor in n.read_nested(run_copy / "nested" / "few").tensors.values():
        assert torch.isfinite(tensor.double()).all()
