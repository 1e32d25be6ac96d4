"""Parquet, CSV and JSON tables: columns, labels, splits, bad rows."""

import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from distill.datasets import BadInputError, DataError
from tests.datasets_examples import cache, load, rows_by_id, sentences, write_csv, write_parquet

__all__ = ["cache"]
pytestmark = pytest.mark.usefixtures("cache")


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


def test_compressed_csv_reads_as_the_plain_file(tmp_path: Path) -> None:
    lines = [f"word {row},{'ab'[row % 2]}" for row in range(20)]
    plain = write_csv(tmp_path / "plain.csv", "text,label", lines)
    (tmp_path / "packed").mkdir()
    packed = tmp_path / "packed" / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    expected = rows_by_id(load(f"csv:{plain}"))
    assert rows_by_id(load(f"csv:{packed}")) == rows_by_id(load(f"csv:{packed.parent}")) == expected
    packed.write_bytes(plain.read_bytes())
    with pytest.raises(DataError, match=r"a\.csv\.gz is no sound gzip file"):
        load(f"csv:{packed}")


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
    columns: dict[str, list[Any]] = {
        "text": sentences(20),
        "other": sentences(20, "o"),
        "label": [0, 1] * 10,
    }
    first = load(f"parquet:{write_parquet(tmp_path / 'a.parquet', **columns)}").fingerprint
    moved = write_parquet(tmp_path / "b" / "c.parquet", **columns)
    assert load(f"parquet:{moved}").fingerprint == first
    assert load(f"parquet:{moved}", text_columns=("other",)).fingerprint != first
    assert load(f"parquet:{moved}", seed=1).fingerprint != first
    assert load(f"parquet:{moved}", skip_bad=True).fingerprint == first  # nothing was bad
    columns["text"][0] = "edited"
    write_parquet(moved, **columns)
    assert load(f"parquet:{moved}").fingerprint != first


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
