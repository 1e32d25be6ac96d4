"""What a store promises, and how two promises are told apart."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores import (
    SpecError,
    StoreError,
    StoreMismatchError,
    StoreSpec,
    create_store,
    default_chunk_rows,
    even_chunk_rows,
    open_store,
)
from tests.stores_examples import fill, small_spec


def test_rows_are_cut_into_chunks_and_the_last_is_short() -> None:
    spec = small_spec()
    assert spec.chunks == 3
    assert [spec.rows_of(index) for index in range(3)] == [(0, 4), (4, 8), (8, 10)]
    with pytest.raises(SpecError, match="there is no chunk 3: the chunks are 0 to 2"):
        spec.rows_of(3)


def test_a_chunk_that_divides_the_rows_leaves_no_empty_one() -> None:
    spec = small_spec(rows=8)
    assert spec.chunks == 2
    assert spec.rows_of(1) == (4, 8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"chunk_rows": -1}, "chunk_rows must be at least 1, got -1"),
        ({"logits": -1}, "logits must be at least 0, got -1"),
        ({"dtype": "float64"}, "dtype must be one of float32, float16, got 'float64'"),
        ({"views": 3}, "10 rows are not a whole number of 3 views each"),
        ({"made_by": {"device": object()}}, "made_by must be plain JSON"),
        ({"made_by": {"loss": float("nan")}}, "made_by must be plain JSON"),
    ],
)
def test_a_spec_no_store_can_keep_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        small_spec(**changes)


def test_default_chunks_hold_four_megabytes_of_features() -> None:
    assert default_chunk_rows(2048, "float32") == 512
    assert default_chunk_rows(2048, "float16") == 1024
    assert default_chunk_rows(2048, "float32", most=100) == 100
    assert default_chunk_rows(10_000_000, "float32") == 1
    with pytest.raises(SpecError, match="dtype must be one of"):
        default_chunk_rows(2048, "int8")


def test_a_spec_survives_the_disk_whatever_text_it_holds(tmp_path: Path) -> None:
    spec = small_spec(
        classes=("ünïcode", "line\nbreak", 'quote"', "\ud800", *map(str, range(1000))),
        made_by={"teacher": "ResNet–50 🙂", "crop": (0.9, 0.1), "none": None, "n": {"1": [True]}},
    )
    store = open_store(fill(tmp_path / "train", spec))
    assert store.spec == spec
    assert store.spec.made_by["crop"] == [0.9, 0.1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dim": 4}, "dim is 3 there and 4 here"),
        ({"dtype": "float16"}, "dtype is 'float32' there and 'float16' here"),
        ({"chunk_rows": 5}, "chunk_rows is 4 there and 5 here"),
        ({"classes": ("nought", "two")}, r"classes\[1\] is 'one' there and 'two' here"),
        ({"classes": ()}, "classes is a list of 2 there and a list of 0 here"),
        (
            {"made_by": {"teacher": {"name": "hf/bert", "weights": "sha256:ab"}}},
            r"made_by.teacher.name is 'timm/resnet50' there and 'hf/bert' here",
        ),
        ({"made_by": {}}, r"made_by.teacher is \{.*\} there and absent here"),
    ],
)
def test_a_store_made_by_something_else_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    fill(tmp_path / "train", small_spec())
    with pytest.raises(StoreMismatchError, match=told):
        create_store(tmp_path / "train", small_spec(**changes))


def test_true_is_not_one_in_what_made_a_store(tmp_path: Path) -> None:
    fill(tmp_path / "train", small_spec(made_by={"pad": True}))
    with pytest.raises(StoreMismatchError, match="pad is True there and 1 here"):
        create_store(tmp_path / "train", small_spec(made_by={"pad": 1}))


def test_many_differences_are_counted_not_listed(tmp_path: Path) -> None:
    fill(tmp_path / "train", small_spec())
    other = small_spec(dim=4, rows=11, chunk_rows=5, logits=3)
    with pytest.raises(StoreMismatchError, match=r"\(and 1 more\)") as caught:
        create_store(tmp_path / "train", other)
    assert "\n" not in str(caught.value)


def test_library_versions_are_recorded_but_not_compared(tmp_path: Path) -> None:
    first = small_spec(made_by={"teacher": "t", "versions": {"torch": "2.4"}})
    later = small_spec(made_by={"teacher": "t", "versions": {"torch": "2.9"}})
    path = fill(tmp_path / "train", first)
    with create_store(path, later) as writer:
        assert writer.pending() == []
    assert open_store(path).spec.made_by["versions"] == {"torch": "2.4"}
    twin = open_store(fill(tmp_path / "twin", later))
    assert twin.digest == open_store(path).digest


def test_the_digest_tells_rows_and_origins_apart(tmp_path: Path) -> None:
    specs: list[StoreSpec] = [
        small_spec(),
        small_spec(dtype="float16"),
        small_spec(made_by={"teacher": "another"}),
    ]
    found = {open_store(fill(tmp_path / str(n), spec)).digest for n, spec in enumerate(specs)}
    assert len(found) == 3


def test_a_folder_of_stores_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"name one in it, such as .*features.zarr/train"):
        create_store(tmp_path / "features.zarr", small_spec())


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"holds thesis.tex, but no store: choose another place"):
        create_store(tmp_path / "train", small_spec())
    assert (tmp_path / "train" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("rows", "most", "multiple", "expected"),
    [
        (120, 1024, 64, 128),  # two batches, not sixteen
        (1257, 1024, 64, 640),  # two chunks of ten batches
        (1024, 1024, 64, 1024),
        (1025, 1024, 1, 513),
        (7, 1024, 1, 7),
        (0, 1024, 64, 64),
        (500, 100, 300, 300),  # a batch larger than a chunk should be
    ],
)
def test_chunks_are_few_and_even(rows: int, most: int, multiple: int, expected: int) -> None:
    assert even_chunk_rows(rows, most, multiple=multiple) == expected


@given(st.integers(0, 5000), st.integers(1, 700), st.integers(1, 90))
def test_even_chunks_are_as_few_as_the_largest_ones(rows: int, most: int, multiple: int) -> None:
    largest = max(1, most // multiple) * multiple
    found = even_chunk_rows(rows, most, multiple=multiple)
    assert found % multiple == 0
    assert found <= largest
    assert -(-rows // found) == -(-rows // largest)
