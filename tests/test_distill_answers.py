"""Predictions as files: what other readers find in them, and what is refused beforehand."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from distill import answers
from distill.errors import StageError
from distill.findings import Prediction
from tests.cli_examples import Command, refused

FOUND = (
    Prediction(input='a, "b".png', label="cat", probability=0.1 + 0.2),
    Prediction(input="line\twith\nbreaks", label="Größe", probability=1.0),
)


def expected() -> list[tuple[str, str, float]]:
    return [(one.input, one.label, one.probability) for one in FOUND]


def test_csv_holds_every_name_and_digit(tmp_path: Path) -> None:
    answers.write_answers(FOUND, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        heading, *rows = csv.reader(file)
    assert heading == ["input", "label", "probability"]
    assert [(name, label, float(share)) for name, label, share in rows] == expected()


def test_json_and_parquet_hold_the_same(tmp_path: Path) -> None:
    answers.write_answers(FOUND, tmp_path / "x.json")
    answers.write_answers(FOUND, tmp_path / "x.parquet")
    read = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pylist()
    for rows in (read, table):
        assert [(row["input"], row["label"], row["probability"]) for row in rows] == expected()


def test_what_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("old")

    def dies(found: object, file: Path) -> None:
        file.write_text("half")
        raise OSError(28, "no space")

    monkeypatch.setitem(answers.WRITERS, ".csv", dies)
    with pytest.raises(OSError, match="no space"):
        answers.write_answers(FOUND, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_written_are_refused_first(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("old")
    for name, why in (
        ("x.xlsx", r"name it \.csv, \.json or \.parquet"),
        ("no/x.csv", "there is no folder"),
        ("there.csv", "already there; name another file or say --overwrite"),
    ):
        with pytest.raises(StageError, match=why):
            answers.check_answers(tmp_path / name, overwrite=False)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StageError, match=r"folder\.csv is a folder; name a file to write"):
        answers.check_answers(tmp_path / "folder.csv", overwrite=True)
    answers.check_answers(tmp_path / "there.csv", overwrite=True)


def test_the_command_writes_what_it_says(small_run: Path, tmp_path: Path, call: Command) -> None:
    from PIL import Image

    for name in ("a", "b"):
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    words = ("predict", tmp_path / "a.png", tmp_path / "b.png", "--run", small_run)
    target = tmp_path / "out.csv"
    code, out, err = call(*words, "--output", target)
    assert code == 0, err
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [line.split("\t")[1] for line in out.splitlines()]
    refused(call(*words, "--output", target), "already there")
    assert call(*words, "--output", target, "--overwrite", "--quiet")[0] == 0
    refused(call(*words, "--output", tmp_path / "x.doc"), ".csv, .json or .parquet")
