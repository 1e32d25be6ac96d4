"""The command line's complaints: one line each, its exit code, and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.cli_examples import SMALL, Command, refused
from tests.datasets_examples import cache, write_declared
from tests.lessons_examples import sentence
from tests.teachers_examples import WORDS, bert_folder, tokenizer

__all__ = ["cache"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "--teacher", "timm/resnet5O"], ["resnet5O", "resnet50"]),
        (["extract", "--teacher", "tim/resnet50", "--random-init"], ["tim/resnet50", "timm"]),
        (["extract", "--teacher", "timm/resnet10x"], ["resnet10x", "resnet10t"]),
        (["extract", "--teacher", "torchvision/resnet1"], ["did you mean 'torchvision/resnet1"]),
        (["run", *SMALL, "--student", "timm/resnet10x"], ["resnet10x", "resnet10t"]),
        (["run", *SMALL, "--student", "hf/bert"], ["hf/bert reads texts"]),
        (["extract", "--run", "/proc/x"], ["/proc/x cannot be made"]),
        (["run", "--data", "digit"], ["digit", "digits"]),
        (["extract", "--data", "imagefolder:nowhere"], ["nowhere"]),
        (["extract", "--data", "csv:nowhere.csv", "--teacher", "hf/x"], ["nowhere.csv"]),
        (["run", "--config", "none.toml"], ["no config file at none.toml"]),
        (["run", "none.toml"], ["no config file at none.toml"]),
        (["extract", "--config", "none.toml"], ["no config file at none.toml"]),
        (["extract", "--device", "cuda:7", "--random-init"], ["cuda"]),
        (["extract", "--device", "gpu", "--random-init"], ["gpu"]),
        (["extract", "--pooling", "max"], ["teacher.pooling", "'mean'"]),
        (["extract"], ["has not been taught yet", "distill train-teacher"]),
        (["project", "--factor", "16"], ["no features", "distill extract"]),
        (["train-head"], ["no features", "distill extract"]),
        (["train-student"], ["no features", "distill extract"]),
        (["report"], ["distill extract"]),
        (["predict", "x.png"], ["no student", "distill train-student"]),
        (["info", "nowhere"], ["nothing at nowhere"]),
        (["verify", "nowhere"], ["no store at nowhere"]),
        (["import", "none.npy", "--labels", "none.csv"], ["none.npy"]),
        (["export-store", "none.zarr", "x.npy"], ["none.zarr"]),
        (["projekt"], ["No such command 'projekt'"]),
        (["project", "--factr", "3"], ["--factr", "--factor"]),
        (["project", "--factor", "x"], ["project.factors", "valid number", "'x'"]),
        (["project"], ["no features"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_words_are_one_line(words: list[str], parts: list[str], call: Command) -> None:
    refused(call(*words), *parts)
    assert list(Path.cwd().rglob("*.*")) == []  # and leave nothing behind


def test_a_run_folder_below_a_file_is_refused(call: Command) -> None:
    Path("file").touch()
    refused(call("extract", *SMALL, "--run", "file"), "file is a file")
    refused(call("extract", *SMALL, "--run", "file/x"), "file/x cannot be made")


def test_offline_without_the_weights_says_how_to_give_a_file(call: Command) -> None:
    words = ["extract", "--weights", "pretrained", "--teacher"]
    refused(call(*words, "timm/resnet18.a1_in1k"), "--weights")
    refused(call(*words, "torchvision/resnet18"), "--weights")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["project", "--factor", "0.5"], ["project.factors", "greater than or equal to 1"]),
        (["project", "--factor", "2000"], ["2000", "512"]),
        (["project", "--kind", "gausian"], ["gausian", "gaussian"]),
        (["train-student", "--student", "timm/resnet10tt"], ["resnet10tt"]),
        (["train-student", "--factor", "3"], ["factor 3", "4", "64"]),
        (["train-student", "--loss", "mae"], ["student.loss"]),
        (["train-student", "--epochs", "3", "--factor", "64"], ["epochs", "--overwrite"]),
        (["extract", "--teacher", "timm/resnet18", "--random-init"], ["resnet10t", "resnet18"]),
        (["extract", "--limit", "60"], ["made by something else", "fingerprint", "delete"]),
        (["validate", "gaussian-k9-s0"], ["gaussian-k9-s0"]),
        (["validate", "gaussian-k8-s0", "--split", "dev"], ["dev", "train"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_does_not_fit_a_finished_run_is_refused_and_nothing_lost(
    words: list[str], parts: list[str], small_run: Path, call: Command
) -> None:
    before = (small_run / "config.toml").read_text()
    refused(call(*words, "--run", small_run), *parts)
    assert (small_run / "config.toml").read_text() == before
    assert call("verify", small_run)[0] == 0


def test_a_killed_run_goes_on_without_the_words_that_began_it(
    tmp_path: Path, call: Command
) -> None:
    """Killed in the middle, the folder knows its config: no command falls back to a default."""
    code = (
        "import os, signal, sys; from stores import StoreWriter; "
        "StoreWriter.write = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL); "
        "from distill.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["extract", *SMALL, "--run", str(tmp_path / "r")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == -9
    assert call("extract", "--run", tmp_path / "r", "--quiet")[0] == 0
    _, out, _ = call("info", tmp_path / "r", "--json")
    assert json.loads(out)["stores"][0]["made_by"]["teacher"] == "timm/resnet10t"


def test_features_are_made_anew_only_when_asked(run_copy: Path, call: Command) -> None:
    other = ["extract", "--run", run_copy, "--limit", "30", "--quiet"]
    refused(call(*other), "made by something else", "distill extract --overwrite")
    assert call(*other, "--overwrite")[0] == 0
    _, out, _ = call("info", run_copy, "--json")
    assert json.loads(out)["stores"][0]["rows"] == 30


def _extracted(root: Path, call: Command, teacher: str, data: str, *words: Any) -> list[Any]:
    """A run of a small teacher's projected features; the words that name it."""
    run = ["--run", root / "r", "--quiet"]
    code, _, err = call("extract", "--teacher", teacher, "--data", data, *words, *run)
    assert code == 0, err
    code, _, err = call("project", "--factor", "16", *run)
    assert code == 0, err
    return run


def _pets(root: Path, call: Command) -> list[Any]:
    """A run of two folders of images below ``root / "pets"``."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / "pets" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "pets" / name / f"{number}.png")
    words = ("--random-init", "--image-size", "32")
    return _extracted(root, call, "timm/resnet10t", f"imagefolder:{root / 'pets'}", *words)


def _texts(root: Path, call: Command) -> tuple[list[Any], pa.Table]:
    """A run of sentences in ``root / "train.parquet"``, by the BERT in ``root / "bert"``."""
    rng, labels = np.random.default_rng(0), [0, 1] * 20
    table = pa.table({"text": [sentence(rng, label) for label in labels], "label": labels})
    write_declared(root / "train.parquet", table, ["cat", "dog"])
    bert = bert_folder(root / "bert", hidden_size=64)
    run = _extracted(root / "texts", call, f"hf/{bert}", f"parquet:{root / 'train.parquet'}")
    return [*run, "--student", "static/8"], table


@pytest.mark.usefixtures("cache")
def test_a_student_does_not_read_by_another_tokenizer_of_the_same_size(
    tmp_path: Path, call: Command
) -> None:
    texts, _ = _texts(tmp_path, call)
    other = tokenizer([*WORDS[1:], WORDS[0]])
    assert len(other) == len(tokenizer())
    other.save_pretrained(str(tmp_path / "bert"))
    told = ("has other tokenizer_sha256", "now than when it made", "or run `distill extract")
    refused(call("train-student", *texts), *told)
    tokenizer().save_pretrained(str(tmp_path / "bert"))
    assert call("train-student", "--epochs", "1", "--no-baselines", *texts)[0] == 0


@pytest.mark.usefixtures("cache")
def test_a_student_is_not_taught_a_class_without_a_training_example(
    tmp_path: Path, call: Command
) -> None:
    pets = _pets(tmp_path, call)
    (tmp_path / "pets" / "owls").mkdir()
    refused(call("train-student", *pets), f"{tmp_path / 'pets' / 'owls'} holds no images")
    texts, table = _texts(tmp_path, call)
    write_declared(tmp_path / "train.parquet", table, ["cat", "dog", "owl"])
    told = ("1 of the 3 classes that", "declares have no example in train: 'owl'")
    refused(call("train-student", *texts), *told)


def test_a_student_does_not_learn_from_data_that_changed(tmp_path: Path, call: Command) -> None:
    run = _pets(tmp_path, call)
    a, b = (tmp_path / "pets" / name / "3.png" for name in ("cats", "dogs"))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    refused(call("train-student", "--epochs", "1", *run), "any more", "extract --overwrite")
    a.write_bytes(first)
    b.write_bytes(second)
    assert call("train-student", "--epochs", "1", *run)[0] == 0


def test_a_first_look_is_called_one_in_the_report(small_run: Path) -> None:
    assert "limited to 120 examples of each split" in (small_run / "report.html").read_text()
    assert "limited to 120 examples of each split" in (small_run / "report.md").read_text()


def test_ctrl_c_says_what_is_safe(
    small_run: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("distill.stages.train_head.train_heads", interrupted)
    code, out, err = call("train-head", "--run", small_run)
    assert code == 130
    assert "run the same command to go on" in err
    assert out == ""


@pytest.mark.parametrize(
    ("number", "part"), [(28, "the disk is full"), (13, "permission denied"), (30, "read-only")]
)
def test_a_sick_disk_is_one_line(
    number: int, part: str, small_run: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sick(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "features.zarr")

    monkeypatch.setattr("distill.stages.train_head.train_heads", sick)
    refused(call("train-head", "--run", small_run), "features.zarr", part)


def limited(words: list[str], size: int) -> "subprocess.CompletedProcess[str]":
    """Run with a limit on the size of files: as a full disk or a quota would refuse to write."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
        "from distill.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_a_really_full_disk_is_one_line_and_resumes(tmp_path: Path, call: Command) -> None:
    words = ["extract", *SMALL, "--run", str(tmp_path / "r")]
    done = limited(words, 40_000)
    assert done.returncode == 2, done.stderr
    assert "too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert call(*words)[0] == 0


def test_a_full_disk_under_a_student_is_one_line_too(run_copy: Path, call: Command) -> None:
    words = ["train-student", "--epochs", "1", "--overwrite", "--factor", "64"]
    done = limited([*words, "--run", str(run_copy)], 200_000)
    assert done.returncode == 2, done.stderr
    assert "too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert call(*words, "--run", run_copy, "--quiet")[0] == 0
