"""Windows of tokens: joined and cut by hand, splits, and data that make no sense."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config import DataConfig
from distill.datasets import DataError, load_windows
from distill.datasets.windows import cut_into
from tests.language_examples import write_ids

THREE = {"train": [[1, 2, 3], [4, 5], [6, 7, 8, 9]], "validation": [[1, 2, 3, 4]]}


def windows(name: str, *, tokens: int = 4, encode: Any = None, **settings: Any) -> Any:
    config = DataConfig(name=name, **settings)
    return load_windows(config, tokens=tokens, vocabulary=10, encode=encode)


def test_rows_are_joined_in_their_order_and_cut(tmp_path: Path) -> None:
    name = write_ids(tmp_path, {**THREE, "test": [[9, 9, 9], [9, 0, 1]]})
    found = windows(name)
    assert found.splits["train"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]  # 9 is left
    assert found.splits["validation"].tolist() == [[1, 2, 3, 4]]
    assert found.splits["test"].tolist() == [[9, 9, 9, 9]]
    assert found.notes == ("token ids from 'input_ids', in windows of 4",)


@given(st.lists(st.lists(st.integers(0, 99), max_size=7), max_size=9), st.integers(2, 5))
def test_nothing_is_lost_but_the_end(rows: list[list[int]], tokens: int) -> None:
    joined = [one for row in rows for one in row]
    found = cut_into(np.array(joined, dtype=np.int64), tokens)
    assert found.shape == (len(joined) // tokens, tokens)
    assert found.ravel().tolist() == joined[: found.size]


def test_splits_that_are_not_there_are_carved_out_of_train(tmp_path: Path) -> None:
    name = write_ids(tmp_path, {"train": [[row % 10] * 4 for row in range(40)]})
    found = windows(name, validation_share=0.1, test_share=0.2).splits
    assert [len(found[split]) for split in ("train", "validation", "test")] == [28, 4, 8]
    every = sorted(row[0] for part in found.values() for row in part.tolist())
    assert every == sorted(row % 10 for row in range(40))
    few = windows(name, validation_share=0.1, test_share=0.2, limit=3).splits
    assert [len(few[split]) for split in ("train", "validation", "test")] == [3, 3, 3]


def test_the_seed_draws_what_is_carved_out_and_what_a_limit_keeps(tmp_path: Path) -> None:
    name = write_ids(tmp_path, {"train": [[row, row, row, row] for row in range(10)] * 4})

    def first(**settings: Any) -> dict[str, list[int]]:
        found = windows(name, validation_share=0.2, test_share=0.2, **settings).splits
        return {split: rows[:, 0].tolist() for split, rows in found.items()}

    assert first(seed=1) == first(seed=1) != first(seed=2)
    # the same rows are carved out, and others of them are kept
    limited = {seed: first(seed=seed, limit=4) for seed in (1, 2)}
    assert {len(rows) for rows in limited[1].values()} == {4}
    assert limited[1] != limited[2]
    same = [[row, row, row, row] for row in range(10)]
    everything = write_ids(tmp_path / "all", dict.fromkeys(("train", "validation", "test"), same))
    kept = [
        windows(everything, seed=seed, limit=5).splits["train"][:, 0].tolist() for seed in (1, 2)
    ]
    assert kept[0] != kept[1]


def test_an_empty_row_adds_nothing_and_a_missing_one_neither(tmp_path: Path) -> None:
    found = windows(write_ids(tmp_path, {**THREE, "test": [[1, 2], [], None, [3, 4]]}))
    assert found.splits["test"].tolist() == [[1, 2, 3, 4]]


def test_ids_of_any_whole_numbers_and_rows_of_several_files_are_read_in_order(
    tmp_path: Path,
) -> None:
    for at, kind in enumerate((pa.int32(), pa.uint16(), pa.int64())):
        ids = pa.array([[at, at], [], [at]], type=pa.list_(kind))
        pq.write_table(pa.table({"input_ids": ids}), tmp_path / f"{at}-train.parquet")
    large = pa.array([[7, 7, 7, 7]], type=pa.large_list(pa.int8()))
    for split in ("validation", "test"):
        pq.write_table(pa.table({"input_ids": large}), tmp_path / f"{split}.parquet")
    found = windows(f"parquet:{tmp_path}/*.parquet", tokens=3).splits
    assert found["train"].tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert found["train"].dtype == np.int64
    assert found["test"].tolist() == [[7, 7, 7]]
    fixed = pa.array([[8, 8], None, [9, 9]], type=pa.list_(pa.int64(), 2))
    pq.write_table(pa.table({"input_ids": fixed}), tmp_path / "test.parquet")
    found = windows(f"parquet:{tmp_path}/*.parquet", tokens=2).splits
    assert found["test"].tolist() == [[8, 8], [9, 9]]


def test_columns_of_texts_that_are_named_are_read_instead_of_ids(tmp_path: Path) -> None:
    rows = [json.dumps({"input_ids": [1, 1, 1], "said": "2 3 4 5"}) for _ in range(20)]
    (tmp_path / "both.jsonl").write_text("\n".join(rows))
    name = f"json:{tmp_path}/both.jsonl"
    assert {*windows(name).splits["train"].ravel().tolist()} == {1}
    found = windows(name, text_columns=("said",), tokens=5, encode=encoded)
    assert found.splits["train"][0].tolist() == [2, 3, 4, 5, 0]


def test_what_the_windows_hold_decides_their_fingerprint(tmp_path: Path) -> None:
    rows = {**THREE, "test": [[1, 2, 3, 4]]}
    one = windows(write_ids(tmp_path / "a", rows))
    same = windows(write_ids(tmp_path / "b", rows))
    other = windows(write_ids(tmp_path / "c", {**rows, "test": [[1, 2, 3, 5]]}))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert windows(write_ids(tmp_path / "a", rows), tokens=2).fingerprint != one.fingerprint


def texts(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    for split, lines in {
        "train": ["1 2", "3 4 5", "6"], "validation": ["7 8 9"], "test": ["1 1 1"],
    }.items():  # fmt: skip
        rows = [json.dumps({"text": line, "label": 0}) for line in lines]
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return f"json:{folder}/*.jsonl"


def encoded(lines: Sequence[str]) -> list[list[int]]:
    """Each ends with a 0."""
    return [[*map(int, line.split()), 0] for line in lines]


def test_texts_are_tokenised_and_their_labels_are_not_read(tmp_path: Path) -> None:
    found = windows(texts(tmp_path), tokens=3, encode=encoded)
    assert found.splits["train"].tolist() == [[1, 2, 0], [3, 4, 5], [0, 6, 0]]
    assert found.splits["test"].tolist() == [[1, 1, 1]]
    assert found.notes[-1] == "texts, tokenised, in windows of 3"


def test_texts_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the model has no tokenizer beside it: give token ids"):
        windows(texts(tmp_path))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([[1, 2]], "the test split of .* has 2 tokens, and a window is of 4: give more texts"),
        ([[1, 2, 3, 10]], "has the token 10, and the model knows 0 to 9"),
        ([[1, 2, 3, -1]], "has the token -1, and the model knows 0 to 9"),
        (
            [[1.5, 2.0, 3.0, 4.0]],
            r"test.parquet: .* holds list<.*double>, not whole",
        ),
        ([[1, 2, 3], [], [1, None, 3, 4]], "row 2 of 'input_ids' lacks a number"),
        ([[[1, 2], [3, 4]]], r"holds list<.*list<.*int64.*>, not whole numbers"),
        ([[True, False, True, True]], "holds list<.*bool>, not whole numbers"),
        ([1, 2, 3, 4], "holds int64, not whole numbers; give one list of token ids a row"),
    ],
)
def test_data_that_make_no_sense_are_refused(tmp_path: Path, rows: Any, told: str) -> None:
    name = write_ids(tmp_path, {**THREE, "test": rows})
    with pytest.raises(DataError, match=told):
        windows(name)


def test_images_and_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds images; a language model reads text"):
        windows("digits", encode=encoded)
    rows = [json.dumps({"premise": "1 2", "hypothesis": "3 4"}) for _ in range(20)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    with pytest.raises(DataError, match="holds pairs of texts; name one column"):
        windows(f"json:{tmp_path}/pairs.jsonl", encode=encoded)
