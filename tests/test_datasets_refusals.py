"""Tables and names that cannot be used: every refusal is one line that says what to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from distill.datasets import DataError, UnknownDatasetError
from tests.datasets_examples import cache, load, sentences, write_declared, write_parquet

__all__ = ["cache"]
pytestmark = pytest.mark.usefixtures("cache")


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("lists", {"label": [[0, 1]] * 20}, {}, "multi-label targets are not supported"),
    ("regression", {"label": [row / 7 for row in range(20)]}, {}, "regression targets are not"),
    ("ids", {"label": list(range(20))}, {}, "a different value in each of its 20 rows"),
    ("all-missing", {"label": [None] * 20}, {}, "holds no label at all"),
    ("one-class", {"label": ["x"] * 20}, {}, "all of one class, 'x'; at least two are needed"),
    ("label-name", {"lable": [0, 1] * 10}, {"label_column": "label"}, "did you mean 'lable'?"),
    ("text-name", {"label": [0, 1] * 10}, {"text_columns": ("txet",)}, "did you mean 'text'?"),
    ("not-text", {"label": [0, 1] * 10}, {"text_columns": ("label",)}, "holds int64, not text"),
    ("three", {"label": [0, 1] * 10}, {"text_columns": ("text", "text", "text")}, "or two for"),
    ("both", {"label": [0, 1] * 10}, {"label_column": "text", "text_columns": ("text",)}, "both"),
    ("same-split", {"label": [0, 1] * 10}, {"test_split": "validation"}, "must be different"),
]


@pytest.mark.parametrize(
    ("columns", "settings", "words"),
    [pytest.param(*case[1:], id=case[0]) for case in REFUSED],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, columns: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    for name in ("train", "other-train"):
        write_parquet(tmp_path / f"{name}.parquet", text=sentences(20), **columns)
    place = tmp_path if "test_split" in settings else tmp_path / "train.parquet"
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        load(f"parquet:{place}", **settings)
    assert "\n" not in str(caught.value)


def test_several_text_columns_must_be_chosen_from(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", ham=sentences(20), eggs=sentences(20), label=[0, 1] * 10
    )
    with pytest.raises(DataError, match=r"several text columns: ham, eggs; name one, or two"):
        load(f"parquet:{path}")


def test_a_label_that_train_never_shows_is_refused(tmp_path: Path) -> None:
    for name, labels in {"train": ["a", "b"] * 10, "test": ["a", "c"]}.items():
        write_parquet(tmp_path / f"{name}.parquet", text=sentences(len(labels)), label=labels)
    with pytest.raises(DataError, match=r"test split of .* 1 classes that train never shows: 'c'"):
        load(f"parquet:{tmp_path}")


@pytest.mark.parametrize("skipped", [False, True])
def test_a_declared_class_that_train_never_shows_is_refused(tmp_path: Path, skipped: bool) -> None:
    """One without a row at all, and one whose only row has no text."""
    labels = [0, 1] * 10 + [2] * skipped
    table = pa.table({"text": [*sentences(20), *[None] * skipped], "label": labels})
    write_declared(tmp_path / "train.parquet", table, ["cat", "dog", "owl"])
    told = r"1 of the 3 classes that .* declares have no example in train: 'owl'; add some or"
    with pytest.raises(DataError, match=told) as caught:
        load(f"parquet:{tmp_path}", skip_bad=True)
    assert "\n" not in str(caught.value)
    table = pa.table({"text": sentences(21), "label": [0, 1] * 10 + [2]})
    write_declared(tmp_path / "train.parquet", table, ["cat", "dog", "owl"])
    assert load(f"parquet:{tmp_path}").classes == ("cat", "dog", "owl")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", text=sentences(20), label=["a", "b"] * 10)
    empty = {"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}
    write_parquet(tmp_path / "test.parquet", **empty)
    with pytest.raises(DataError, match=r"test\.parquet has no rows; remove it or give another"):
        load(f"parquet:{tmp_path}")


def test_files_of_two_data_sets_are_not_joined(tmp_path: Path) -> None:
    """Two tables may agree in every type and still mean other classes by the same numbers."""
    for name, names in {"x-train": ["cat", "dog"], "y-train": ["car", "bus"]}.items():
        table = pa.table({"text": sentences(20), "label": [0, 1] * 10})
        write_declared(tmp_path / f"{name}.parquet", table, names)
    with pytest.raises(DataError, match=r"differ in column 'label' \(its type or its class names"):
        load(f"parquet:{tmp_path}")


def test_a_file_of_no_split_among_files_of_splits_is_refused(tmp_path: Path) -> None:
    for name in ("train", "test", "extra"):
        write_parquet(tmp_path / f"{name}.parquet", text=sentences(20), label=[0, 1] * 10)
    with pytest.raises(DataError, match=r"extra\.parquet is named after no split"):
        load(f"parquet:{tmp_path}")


def _damaged(root: Path) -> Iterator[tuple[str, str]]:
    (root / "zero.parquet").write_bytes(b"")
    yield f"parquet:{root}/zero.parquet", "zero.parquet"
    (root / "noise.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    yield f"parquet:{root}/noise.parquet", "noise.parquet is not a parquet file, or a damaged one"
    (root / "zero.csv").write_text("")
    yield f"csv:{root}/zero.csv", "zero.csv is empty (0 bytes)"
    (root / "only.csv").write_text("text,label\n")
    yield f"csv:{root}/only.csv", "only.csv has no rows"
    (root / "bare.csv").write_text("text,text\na,b\n")
    yield f"csv:{root}/bare.csv", "needs a first line that names every column once"
    (root / "latin.csv").write_bytes("text,label\né,x\n".encode("latin-1"))
    yield f"csv:{root}/latin.csv", "latin.csv"
    (root / "ragged.csv").write_text("text,label\na,b\nc,d,e,f\n")
    yield f"csv:{root}/ragged.csv", "ragged.csv cannot be read as csv"
    (root / "broken.json").write_text('{"text": "a", \n{"label"')
    yield f"json:{root}/broken.json", "broken.json cannot be read as json"


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    for name, words in _damaged(tmp_path):
        with pytest.raises(DataError, match=re.escape(words)) as caught:
            load(name)
        assert "\n" not in str(caught.value)


def test_wrong_names_and_paths_say_what_to_type(tmp_path: Path) -> None:
    write_parquet(tmp_path / "flowers.parquet", text=sentences(20), label=[0, 1] * 10)
    (tmp_path / "photos").mkdir()
    cases = {
        "digitz": "no data set named 'digitz'; did you mean 'digits'?",
        "parqet:x": "did you mean 'parquet'?",
        "wines": "no data set named 'wines'; known: digits, imagefolder:DIR",
        f"{tmp_path}/flowers.parquet": f"say parquet:{tmp_path}/flowers.parquet",
        f"{tmp_path}": f"is a path without its format; say parquet:{tmp_path}",
        f"{tmp_path}/photos": f"say imagefolder:{tmp_path}/photos",
        f"parquet:{tmp_path}/flower.parquet": "did you mean 'flowers.parquet'?",
        f"parquet:{tmp_path}/nowhere/x.parquet": "has no 'nowhere'",
        f"parquet:{tmp_path}/photos": "holds no file ending in .parquet",
        f"parquet:{tmp_path}/*.pq": "no file matches",
        "x.npy": "features come in with: distill import x.npy",
        "parquet:": "no path is named; the form is parquet:PATH",
        "digits:8": "digits takes no path",
        "hub:": "no hub data set is named",
    }
    for name, words in cases.items():
        with pytest.raises(DataError, match=re.escape(words)) as caught:
            load(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownDatasetError):
        load("digitz")
