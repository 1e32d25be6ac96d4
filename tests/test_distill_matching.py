"""Views and unlabeled rows as training material: what belongs together, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distill.errors import StageError
from distill.lessons import Lesson, Material
from distill.matching import material
from distill.views import Viewed, Views
from teachers import Teacher
from tests.lessons_examples import (
    PROJECTION,
    SIZES,
    dataset,
    image_teacher,
    lesson,
    with_pool,
    with_views,
)

DATA = dataset()
POOL = dataset(fingerprint="pool")
VIEWS = Views(count=3, augment="crop-flip", seed=5)
N = SIZES["train"]


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return image_teacher()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher) -> Lesson:
    return lesson(tmp_path_factory.mktemp("lesson"), DATA, teacher)


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory, plain: Lesson, teacher: Teacher) -> Lesson:
    return with_views(tmp_path_factory.mktemp("views"), DATA, teacher, plain, VIEWS)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, viewed: Lesson, teacher: Teacher) -> Lesson:
    return with_pool(tmp_path_factory.mktemp("pool"), POOL, teacher, viewed)


def of(taught: Lesson, *, views: int = -1, pool: bool = True) -> Material:
    return material(taught, DATA, views=views, pool=pool)


def test_without_views_the_examples_themselves_are_learned(plain: Lesson) -> None:
    found = of(plain)
    assert (found.rows, found.views, len(found.parts)) == (N, 0, 1)
    np.testing.assert_array_equal(found.rows_of(1), np.arange(N))
    np.testing.assert_array_equal(found.rows_of(7), np.arange(N))


def test_a_row_of_views_is_the_image_whose_features_are_stored_in_it(
    viewed: Lesson, teacher: Teacher
) -> None:
    found = of(viewed)
    assert (found.rows, found.views) == (3 * N, 3)
    rows = np.array([0, 1, 5, 3 * N - 1, 40])
    images = [found.inputs[int(row)] for row in rows]
    features = teacher.embed(teacher.prepare(images)).features
    np.testing.assert_allclose(found.take_features()(rows).numpy(), features, atol=1e-5)
    aims = features[:, : len(PROJECTION)] @ PROJECTION
    np.testing.assert_allclose(found.take_targets()(rows).numpy(), aims, atol=1e-4)


def test_views_follow_their_examples_where_the_store_has_another_order(
    tmp_path: Path, plain: Lesson, teacher: Teacher
) -> None:
    order = np.random.default_rng(0).permutation(N)
    split = DATA.splits["train"]
    assert split.labels is not None
    moved = dataclasses.replace(
        split, ids=split.ids[order], labels=split.labels[order],
        inputs=type(split.inputs)(split.inputs.reader, split.inputs.rows[order]),
    )  # fmt: skip
    data = dataclasses.replace(DATA, splits={**DATA.splits, "train": moved})
    taught = with_views(tmp_path, data, teacher, plain, VIEWS)
    found = of(taught)
    whole = Viewed(moved.inputs, moved.ids, VIEWS, "image")
    for row in (0, 17, 3 * N - 1):
        assert found.inputs[row].tobytes() == whole[row].tobytes()


def test_an_epoch_learns_one_view_of_every_example_and_all_of_them_in_turn(viewed: Lesson) -> None:
    found = of(viewed)
    epochs = [found.rows_of(epoch) for epoch in (1, 2, 3)]
    for rows in epochs:
        np.testing.assert_array_equal(rows // 3, np.arange(N))
        counts = np.bincount(rows % 3, minlength=3)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(epochs)), np.arange(3 * N))
    np.testing.assert_array_equal(found.rows_of(4), epochs[0])


def test_fewer_views_than_are_stored_are_the_first_ones(viewed: Lesson) -> None:
    found = of(viewed, views=2)
    seen = np.unique(np.concatenate([found.rows_of(epoch) for epoch in (1, 2, 3)]) % 3)
    np.testing.assert_array_equal(seen, [0, 1])
    assert found.views == 2
    clean = of(viewed, views=0)
    assert (clean.views, clean.rows) == (0, N)


def test_more_views_than_are_stored_are_refused(plain: Lesson, viewed: Lesson) -> None:
    with pytest.raises(StageError, match=r"4 views .* holds 3 views of each.*--views 4"):
        of(viewed, views=4)
    none = r"1 view of each example is asked for .* holds no views of the examples"
    with pytest.raises(StageError, match=none):
        of(plain, views=1)


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_an_order_holds_every_chosen_row_once_in_memory_and_from_disk(
    pooled: Lesson, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.stored.MEMORY", memory)
    found = of(pooled)
    batches = found.order(2, batch_size=8, seed=1)
    assert {len(batch) for batch in batches[:-1]} == {8}
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), found.rows_of(2))
    again = found.order(2, batch_size=8, seed=1)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))
    other = np.concatenate(found.order(2, batch_size=8, seed=2))
    assert not np.array_equal(np.concatenate(batches), other)
    take, whole = (
        found.take_targets(),
        np.concatenate([store.features() for store in found.target_stores]),
    )
    for batch in batches:
        np.testing.assert_array_equal(take(batch).numpy(), whole[batch])


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_no_batch_of_an_order_is_a_single_row(
    viewed: Lesson, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchNorm cannot be trained on one."""
    monkeypatch.setattr("distill.stored.MEMORY", memory)
    batches = of(viewed).order(1, batch_size=N - 1, seed=1)
    assert [len(batch) for batch in batches] == [N]


def test_the_pool_stands_behind_the_training_rows_without_labels(pooled: Lesson) -> None:
    found = of(pooled)
    assert found.rows == 3 * N + N
    rows = found.rows_of(1)
    assert len(rows) == 2 * N
    np.testing.assert_array_equal(rows[N:], 3 * N + np.arange(N))
    assert (found.labels[3 * N :] == -1).all()
    assert (found.labels[: 3 * N] >= 0).all()
    image = found.inputs[3 * N + 4]
    assert isinstance(image, Image.Image)
    assert image.tobytes() == POOL.splits["train"].inputs[4].tobytes()
    assert found.labelled.rows == 3 * N
    assert of(pooled, pool=False).rows == 3 * N


def test_a_pool_of_other_data_is_refused(pooled: Lesson) -> None:
    other = dataclasses.replace(pooled, pool=dataset(fingerprint="other"))
    with pytest.raises(StageError, match=r"does not hold the unlabeled data .*--no-pool"):
        of(other)


def test_views_that_cannot_be_made_again_are_refused(
    viewed: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Viewed, "digest", lambda _: "sha256:0")
    with pytest.raises(StageError, match="cannot be made again as they were"):
        of(viewed)


def test_views_of_other_examples_are_refused(viewed: Lesson) -> None:
    fewer = {
        name: dataclasses.replace(split, ids=split.ids + 1) if name == "train" else split
        for name, split in DATA.splits.items()
    }
    data = dataclasses.replace(DATA, splits=fewer)
    with pytest.raises(StageError, match="run extract and project again"):
        material(viewed, data, views=-1, pool=True)


def test_joined_inputs_can_be_sliced_and_counted(pooled: Lesson) -> None:
    inputs: Any = of(pooled).inputs
    assert len(inputs) == 4 * N
    part = inputs[3 * N - 1 : 3 * N + 1]
    assert len(part) == 2
    assert part[1].tobytes() == POOL.splits["train"].inputs[0].tobytes()
    with pytest.raises(IndexError):
        inputs[4 * N]


def test_mixed_views_have_no_labels_and_teach_none(
    tmp_path: Path, plain: Lesson, teacher: Teacher
) -> None:
    mixed = dataclasses.replace(VIEWS, mix="mixup")
    found = of(with_views(tmp_path, DATA, teacher, plain, mixed))
    assert (found.labels == -1).all()
    with pytest.raises(StageError, match=r"mixtures of two examples.*--views 0"):
        _ = found.labelled
