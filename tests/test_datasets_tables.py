"""Parquet, CSV and JSON tables: columns, labels, splits, bad rows, and every refusal."""

import io
import json
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from distill.config import DataConfig
from distill.datasets import BadInputError, DataError, Dataset, UnknownDatasetError, load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Arrow copies go to a folder of the test's own, not to the user's cache."""
    import datasets

    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place)
    return place


def load(name: str, **settings: object) -> Dataset:
    return load_dataset(DataConfig.model_validate({"name": name, **settings}))


def write_parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


def sentences(count: int, word: str = "sentence") -> list[str]:
    return [f"{word} {row}" for row in range(count)]


def rows_by_id(found: Dataset) -> dict[int, tuple[Any, int | None]]:
    return {
        int(example): (split.inputs[at], None if split.labels is None else int(split.labels[at]))
        for split in found.splits.values()
        for at, example in enumerate(split.ids)
    }


def write_csv(path: Path, header: str, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_one_parquet_file_is_train_and_its_labels_are_sorted_names(tmp_path: Path) -> None:
    labels = ["yes", "no"] * 20
    path = write_parquet(tmp_path / "a-test.parquet", text=sentences(40), label=labels)
    found = load(f"parquet:{path}")
    assert (found.modality, found.classes) == ("text", ("no", "yes"))
    assert [len(split) for split in found.splits.values()] == [27, 5, 8]
    assert rows_by_id(found) == {row: (f"sentence {row}", 1 - row % 2) for row in range(40)}


@pytest.mark.parametrize("form", ["{0}/*.parquet", "{0}"], ids=["glob", "folder"])
def test_files_are_splits_by_their_names(tmp_path: Path, form: str) -> None:
    for name, count in {"x-train-0": 20, "x-train-1": 6, "x_dev": 4, "x.Test": 8}.items():
        write_parquet(
            tmp_path / f"{name}.parquet", text=sentences(count, name), label=[0, 1] * (count // 2)
        )
    found = load("parquet:" + form.format(tmp_path))
    assert [len(split) for split in found.splits.values()] == [26, 4, 8]
    assert found.splits["train"].inputs[20] == "x-train-1 0"
    assert found.splits["train"].inputs.where(21).endswith("x-train-1.parquet: row 1")
    assert found.splits["test"].ids.tolist() == list(range(2 * 10**12, 2 * 10**12 + 8))


def test_brackets_in_a_path_are_letters(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "[new] data" / "a*b.parquet", text=sentences(20), label=[0, 1] * 10
    )
    assert len(load(f"parquet:{path}").splits) == 3


def test_nothing_is_written_beside_the_data(tmp_path: Path, cache: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=sentences(20), label=[0, 1] * 10)
    load(f"parquet:{path}")
    assert list(tmp_path.iterdir()) == [path]
    assert any(cache.iterdir())


def test_loading_is_silent_and_leaves_the_library_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    path = write_parquet(tmp_path / "a.parquet", text=sentences(20), label=[0, 1] * 10)
    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    load(f"parquet:{path}")
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before
    assert capfd.readouterr() == ("", "")


def test_inputs_survive_a_trip_to_a_worker_and_are_small(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=sentences(2000), label=[0, 1] * 1000)
    inputs = load(f"parquet:{path}", limit=50).splits["train"].inputs
    sent = pickle.dumps(inputs)
    assert len(sent) < 5000
    assert list(pickle.loads(sent)) == list(inputs)


def png(grey: int, size: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (size, size), grey).save(stream, "png")
    return stream.getvalue()


def test_images_are_found_by_type_even_undeclared(tmp_path: Path) -> None:
    images = [{"bytes": png(row), "path": f"{row}.png"} for row in range(20)]
    path = write_parquet(
        tmp_path / "a.parquet", picture=images, name=sentences(20), label=[0, 1] * 10
    )
    found = load(f"parquet:{path}")
    assert found.modality == "image"
    shades = {row: image.getpixel((0, 0)) for row, (image, _) in rows_by_id(found).items()}
    assert shades == {row: (row, row, row) for row in range(20)}


def test_a_column_of_paths_is_relative_to_its_table(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    for row in range(20):
        (tmp_path / "pics" / f"{row}.png").write_bytes(png(row))
    lines = [f"pics/{row}.png,{'ab'[row % 2]}" for row in range(20)]
    path = write_csv(tmp_path / "a.csv", "file,label", lines)
    found = load(f"csv:{path}", image_column="file")
    assert found.splits["test"].inputs[0].mode == "RGB"
    (tmp_path / "pics" / "3.png").unlink()
    skipped = load(f"csv:{path}", image_column="file", skip_bad=True)
    told = [text for split in skipped.splits.values() for text in split.skipped]
    assert len(told) == 1
    assert "a.csv: row 3: " in told[0]
    assert "there is no such image" in told[0]


def test_an_unreadable_image_names_file_and_row(tmp_path: Path) -> None:
    images = [{"bytes": png(row), "path": None} for row in range(20)]
    images[7] = {"bytes": b"broken", "path": None}
    path = write_parquet(tmp_path / "a.parquet", image=images, label=[0, 1] * 10)
    with pytest.raises(BadInputError, match=r"a\.parquet: row 7: unreadable image"):
        rows_by_id(load(f"parquet:{path}"))
    found = load(f"parquet:{path}", skip_bad=True)
    assert sorted(rows_by_id(found)) == [row for row in range(20) if row != 7]


def test_csv_cells_are_read_as_they_are_written(tmp_path: Path) -> None:
    """Text like NA or 007 is text; integer labels sort by value."""
    texts = ["NA", "007", "1e5", "null", '"a, b"', "café", "nan", "None", "-", "true", "x y", "z"]
    lines = [f"{text},{row % 11}" for row, text in enumerate(texts * 5)]
    path = write_csv(tmp_path / "a.csv", "text,label", lines)
    found = load(f"csv:{path}")
    assert found.classes == tuple(str(number) for number in range(11))
    read = [value for _, (value, _) in sorted(rows_by_id(found).items())]
    assert read == [text.strip('"') for text in texts * 5]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_seen_in_the_header(tmp_path: Path, separator: str) -> None:
    lines = [f"word {row}{separator}{'ab'[row % 2]}" for row in range(20)]
    path = write_csv(tmp_path / "a.tsv", f"\ufefftext{separator}label", lines)
    found = load(f"csv:{path}")
    assert found.classes == ("a", "b")
    assert rows_by_id(found)[3] == ("word 3", 1)


def test_json_lines_and_lists_read_alike(tmp_path: Path) -> None:
    rows = [{"text": f"word {row}", "label": "ab"[row % 2]} for row in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    lines, whole = load(f"jsonl:{tmp_path}/a.jsonl"), load(f"json:{tmp_path}/a.json")
    assert rows_by_id(lines) == rows_by_id(whole)
    assert rows_by_id(lines)[3] == ("word 3", 1)


def test_pairs_are_found_by_custom_or_named(tmp_path: Path) -> None:
    columns = {
        "premise": sentences(20, "p"),
        "hypothesis": sentences(20, "h"),
        "note": sentences(20),
    }
    path = write_parquet(tmp_path / "a.parquet", **columns, label=[0, 1] * 10)
    assert rows_by_id(load(f"parquet:{path}"))[4] == (("p 4", "h 4"), 0)
    named = load(f"parquet:{path}", text_columns=("note", "premise"))
    assert rows_by_id(named)[4] == (("sentence 4", "p 4"), 0)


def test_without_a_label_column_the_data_is_unlabelled(tmp_path: Path) -> None:
    found = load(f"parquet:{write_parquet(tmp_path / 'a.parquet', text=sentences(20))}")
    assert found.classes == ()
    assert all(split.labels is None for split in found.splits.values())
    assert "text from column 'text', no label column" in found.notes


def test_a_test_split_that_hides_its_labels_is_unlabelled(tmp_path: Path) -> None:
    for name, labels in {"train": [0, 1] * 10, "test": [-1] * 4}.items():
        write_parquet(tmp_path / f"{name}.parquet", text=sentences(len(labels)), label=labels)
    found = load(f"parquet:{tmp_path}")
    assert found.splits["test"].labels is None
    assert found.classes == ("0", "1")
    assert "the test split has no labels: nothing can be scored on it" in found.notes


def test_minus_one_is_a_class_where_train_says_so(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=sentences(30), label=[-1, 0, 1] * 10)
    found = load(f"parquet:{path}")
    assert found.classes == ("-1", "0", "1")
    assert rows_by_id(found)[3] == ("sentence 3", 0)


MISSING_TEXT = {"text": ["a", None, "c", "d"] * 5, "label": [0, 1, 0, 1] * 5}
MISSING_LABEL = {"text": sentences(20), "label": ["x", "y", None, "x"] * 5}
NAN_LABEL = {"text": sentences(20), "label": [0.0, 1.0, float("nan"), 1.0] * 5}


@pytest.mark.parametrize(
    ("columns", "words", "row"),
    [
        pytest.param(MISSING_TEXT, "row 1: the text is missing", 1, id="text"),
        pytest.param(MISSING_LABEL, "row 2: the label is missing", 2, id="label"),
        pytest.param(NAN_LABEL, "row 2: the label is missing", 2, id="nan-label"),
    ],
)
def test_a_row_with_something_missing_is_named_or_skipped(
    tmp_path: Path, columns: dict[str, Any], words: str, row: int
) -> None:
    path = write_parquet(tmp_path / "a.parquet", **columns)
    with pytest.raises(BadInputError, match=rf"a\.parquet: {words} \(5 such rows\); .*--skip-bad"):
        load(f"parquet:{path}")
    found = load(f"parquet:{path}", skip_bad=True)
    assert sorted(rows_by_id(found)) == [at for at in range(20) if at % 4 != row]
    assert len(found.splits["train"].skipped) == 5
    assert len(found.classes) == 2


def test_a_number_among_json_texts_is_named_or_skipped(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"w{row}", "label": "ab"[row % 2]} for row in range(20)]
    rows[6]["text"] = 7
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BadInputError, match=r"a\.jsonl: row 6: holds '7', not text"):
        load(f"json:{tmp_path}/a.jsonl")
    found = load(f"json:{tmp_path}/a.jsonl", skip_bad=True)
    assert sorted(rows_by_id(found)) == [row for row in range(20) if row != 6]
    assert rows_by_id(found)[3] == ("w3", 1)


def test_the_fingerprint_knows_content_and_columns_and_not_the_place(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": sentences(20), "other": sentences(20, "o"), "label": [0, 1] * 10}
    first = load(f"parquet:{write_parquet(tmp_path / 'a.parquet', **columns)}").fingerprint
    moved = write_parquet(tmp_path / "b" / "c.parquet", **columns)
    assert load(f"parquet:{moved}").fingerprint == first
    assert load(f"parquet:{moved}", text_columns=("other",)).fingerprint != first
    assert load(f"parquet:{moved}", seed=1).fingerprint != first
    assert load(f"parquet:{moved}", skip_bad=True).fingerprint == first  # nothing was bad
    columns["text"][0] = "edited"
    write_parquet(moved, **columns)
    assert load(f"parquet:{moved}").fingerprint != first


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


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", text=sentences(20), label=["a", "b"] * 10)
    empty = {"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}
    write_parquet(tmp_path / "test.parquet", **empty)
    with pytest.raises(DataError, match=r"test\.parquet has no rows; remove it or give another"):
        load(f"parquet:{tmp_path}")


def test_files_of_two_data_sets_are_not_joined(tmp_path: Path) -> None:
    """Two tables may agree in every type and still mean other classes by the same numbers."""
    for name, names in {"x-train": ["cat", "dog"], "y-train": ["car", "bus"]}.items():
        features: dict[str, Any] = {"label": {"names": names, "_type": "ClassLabel"}}
        features["text"] = {"dtype": "string", "_type": "Value"}
        table = pa.table({"text": sentences(20), "label": [0, 1] * 10})
        about = {"huggingface": json.dumps({"info": {"features": features}})}
        parquet.write_table(table.replace_schema_metadata(about), tmp_path / f"{name}.parquet")
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


@pytest.mark.realdata
def test_clinc150_has_its_official_splits_and_names(shared_data: Path) -> None:
    found = load(f"parquet:{shared_data}/text/clinc150-*.parquet")
    assert [len(split) for split in found.splits.values()] == [15000, 3000, 4500]
    assert len(found.classes) == 150
    assert found.classes[0] == "accept_reservations"
    train = found.splits["train"]
    assert train.labels is not None
    assert np.bincount(train.labels).tolist() == [100] * 150
    at = int(np.flatnonzero(train.ids == 0)[0])
    table = parquet.read_table(shared_data / "text" / "clinc150-train.parquet")
    assert (train.inputs[at], train.labels[at]) == (
        table["text"][0].as_py(),
        table["label"][0].as_py(),
    )


@pytest.mark.realdata
def test_caltech101_is_decoded_and_carved(shared_data: Path) -> None:
    found = load(f"parquet:{shared_data}/images/caltech101-*.parquet")
    assert [len(split) for split in found.splits.values()] == [3005, 531, 2305]
    assert len(found.classes) == 101
    image = found.splits["train"].inputs[0]
    assert image.mode == "RGB"
    assert min(image.size) == 200
