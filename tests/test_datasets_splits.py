"""Carving, limiting, numbering: pinned draws, stratification, ids that stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config import DataConfig
from distill.datasets import DataError, Dataset, Part, Source, assemble, carve, load_dataset
from distill.datasets.splits import allot, draw, grouped, lots
from distill.progress import Silent


class Rows:
    """A reader whose examples are their own row numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, row: int) -> str:
        return f"example {row}"

    def where(self, row: int) -> str:
        return f"rows.csv: row {row}"


def dataset(
    labels: list[int] | None, count: int = 0, *, bad: dict[int, str] | None = None, **settings: int
) -> Dataset:
    codes = None if labels is None else np.array(labels, np.int64)
    part = Part(reader=Rows(len(labels or []) or count), labels=codes, bad=bad or {})
    names = tuple(f"class {code}" for code in sorted(set(labels or [])))
    source = Source(modality="text", classes=names, parts={"train": part}, digest="content")
    return assemble("made up", source, DataConfig.model_validate(settings), Silent())


def test_lots_have_not_changed() -> None:
    drawn = lots(np.array([0, 1, 2 * 10**12]), seed=0, purpose="test")
    assert drawn.tolist() == [
        splitmix(splitmix(0, 0x9E3779B97F4A7C15), 0x9E3779B97F4A7C15),
        splitmix(splitmix(1, 0x9E3779B97F4A7C15), 0x9E3779B97F4A7C15),
        splitmix(splitmix(2 * 10**12, 0x9E3779B97F4A7C15), 0x9E3779B97F4A7C15),
    ]
    assert splitmix(0, 0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # SplitMix64's first, as published
    assert drawn[0] == 12035550249420947055


def splitmix(value: int, step: int) -> int:
    """The plain form, in Python's integers."""
    mask = (1 << 64) - 1
    value = (value + step) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def test_lots_differ_between_seeds_and_purposes() -> None:
    ids = np.arange(1000)
    seen = {
        tuple(np.argsort(lots(ids, seed=seed, purpose=purpose))[:5].tolist())
        for seed in range(5)
        for purpose in ("test", "validation", "limit", "order")
    }
    assert len(seen) == 20


def test_the_digits_are_split_as_they_always_were() -> None:
    splits = load_dataset(DataConfig()).splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 1221,
        "validation": 216,
        "test": 360,
    }
    assert splits["test"].ids[:5].tolist() == [10, 16, 19, 25, 27]
    assert splits["validation"].ids[:5].tolist() == [2, 9, 14, 20, 44]


def test_allotting_by_hand() -> None:
    """Ideal shares of 4 are 2.4, 1.2, 0.4: floors 2, 1, 0 and the last one to the remainder 0.4."""
    counts = np.array([6, 3, 1])
    given = allot(counts, 4, least=np.zeros(3, np.int64), most=counts - 1)
    assert given.tolist() == [3, 1, 0]


def test_a_limit_as_large_as_the_classes_keeps_one_of_each() -> None:
    labels = np.array([0] * 97 + [1, 2, 3])
    chosen = draw(np.arange(100), labels, 4, seed=0, purpose="limit")
    assert sorted(labels[chosen].tolist()) == [0, 1, 2, 3]


@given(
    labels=st.lists(st.integers(0, 4), min_size=12, max_size=80),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 99),
)
def test_carving_is_a_partition_that_keeps_proportions(
    labels: list[int], share: float, seed: int
) -> None:
    codes = np.array(labels, np.int64)
    try:
        marks = carve(np.arange(len(codes)), codes, {"test": share}, seed=seed)
    except DataError:
        assert np.bincount(codes).max() <= 1 or len(codes) * share < 2
        return
    assert (marks["train"].astype(int) + marks["test"] == 1).all()
    assert set(codes[marks["train"]]) == set(labels)  # every class is there to learn
    counts = np.bincount(codes, minlength=5)
    taken = np.bincount(codes[marks["test"]], minlength=5)
    if (counts != 1).all():  # else the single ones stay behind and others make up for them
        assert (np.abs(taken - counts * share) < 2).all()


def test_ids_and_draws_do_not_depend_on_what_is_skipped() -> None:
    """Rows of a bad kind leave; the carving of a fixed hash barely moves, ids not at all."""
    labels = [row % 3 for row in range(300)]
    whole = dataset(labels)
    bad = {5: "rows.csv: row 5: the text is missing"}
    without = dataset(labels, bad=bad, skip_bad=True)
    everything = np.concatenate([split.ids for split in without.splits.values()])
    assert sorted(everything.tolist()) == [row for row in range(300) if row != 5]
    moved = set(whole.splits["test"].ids.tolist()) ^ set(without.splits["test"].ids.tolist())
    assert len(moved) <= 3
    assert without.splits["train"].skipped == ("rows.csv: row 5: the text is missing",)
    assert without.fingerprint != whole.fingerprint


def test_labels_and_inputs_stay_with_their_ids() -> None:
    labels = [int(code) for code in np.random.default_rng(0).integers(0, 5, 200)]
    for split in dataset(labels, limit=20).splits.values():
        assert len(split) == 20
        assert split.labels is not None
        assert split.labels.tolist() == [labels[row] for row in split.ids]
        assert list(split.inputs) == [f"example {row}" for row in split.ids]
        assert split.inputs.where(3) == f"rows.csv: row {split.ids[3]}"
        assert list(split.inputs[4:7]) == [f"example {row}" for row in split.ids[4:7]]


def test_a_limit_takes_from_the_same_split_and_says_so_in_the_fingerprint() -> None:
    labels = [row % 4 for row in range(400)]
    whole, some = dataset(labels), dataset(labels, limit=20)
    for name in ("train", "validation", "test"):
        assert set(some.splits[name].ids) < set(whole.splits[name].ids)
        counts = np.bincount(some.splits[name].labels)  # type: ignore[arg-type]
        assert counts.tolist() == [5, 5, 5, 5]
    assert some.fingerprint != whole.fingerprint


def test_rows_that_stand_class_by_class_are_mixed_once_and_for_all() -> None:
    labels = [row // 50 for row in range(300)]
    first, again = (dataset(labels).splits["train"] for _ in range(2))
    assert first.labels is not None
    assert not grouped(first.labels)
    np.testing.assert_array_equal(first.ids, again.ids)
    assert sorted(first.ids.tolist()) != first.ids.tolist()
    assert list(first.inputs) == [f"example {row}" for row in first.ids]
    assert first.labels.tolist() == [labels[row] for row in first.ids]


def test_rows_that_are_mixed_already_keep_their_order() -> None:
    labels = [int(code) for code in np.random.default_rng(1).integers(0, 3, 300)]
    ids = dataset(labels).splits["train"].ids
    assert (np.diff(ids) > 0).all()


def test_without_labels_splits_are_plain_samples() -> None:
    found = dataset(None, count=100)
    assert [len(split) for split in found.splits.values()] == [68, 12, 20]
    assert all(split.labels is None for split in found.splits.values())
    assert found.classes == ()


def test_a_class_with_one_example_stays_in_train_and_is_told() -> None:
    found = dataset([0] * 50 + [1] * 50 + [2])
    assert found.splits["train"].labels is not None
    assert 2 in found.splits["train"].labels
    assert "1 class has a single example, which stays in train" in found.notes


@pytest.mark.parametrize(
    ("labels", "settings", "words"),
    [
        pytest.param([0, 1, 2], {}, "3 training examples are too few to carve a test", id="tiny"),
        pytest.param([0] * 20, {}, "all of one class, 'class 0'; at least two", id="one-class"),
        pytest.param([0, 1] * 20, {"limit": 1}, r"\(limit = 1\)", id="limited-to-one-class"),
    ],
)
def test_what_cannot_be_split_is_refused(
    labels: list[int], settings: dict[str, int], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        dataset(labels, limit=settings.get("limit", 0))


def test_a_seed_changes_the_splits_and_a_share_only_its_own() -> None:
    labels = [row % 2 for row in range(200)]
    first, other = dataset(labels), dataset(labels, seed=1)
    assert set(first.splits["test"].ids) != set(other.splits["test"].ids)
    assert first.fingerprint != other.fingerprint
    wider = assemble(
        "made up",
        Source(
            modality="text",
            classes=("class 0", "class 1"),
            parts={"train": Part(reader=Rows(200), labels=np.array(labels))},
            digest="content",
        ),
        DataConfig(validation_share=0.3),
        Silent(),
    )
    np.testing.assert_array_equal(wider.splits["test"].ids, first.splits["test"].ids)
    assert len(wider.splits["validation"]) == 48  # 0.3 of the 160 that are left


def test_the_fingerprint_knows_which_rows_even_without_labels() -> None:
    first = dataset(None, count=100).fingerprint
    assert dataset(None, count=100).fingerprint == first
    assert dataset(None, count=100, seed=1).fingerprint != first
    assert dataset(None, count=100, limit=5).fingerprint != first
