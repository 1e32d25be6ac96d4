"""Extracting views, a pool, and projected rows: what is stored, resumed, added and refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distill.stages.extract as stage
from distill import augmentations
from distill.datasets import Dataset
from distill.errors import StageError
from distill.views import Viewed, Views
from projections import make_projection
from stores import (
    InvalidRowsError,
    StoreMismatchError,
    StoreWriter,
    create_store,
    open_splits,
    open_store,
    verify_store,
)
from teachers import NetworkTeacher
from tests.extract_examples import (
    digests,
    image_teacher,
    images,
    run,
    text_teacher,
    texts,
    unlabeled,
)

FLIPPED = Views(count=3, augment="crop-flip", seed=4)
KINDS: dict[str, tuple[Dataset, NetworkTeacher, Views]] = {
    "image": (images(), image_teacher(), FLIPPED),
    "mixed": (images(), image_teacher(), Views(count=2, augment="crop", mix="cutmix")),
    "text": (texts(), text_teacher(), Views(count=2, augment="token-dropout")),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of two batches, so that nothing fits into one."""
    monkeypatch.setattr(stage, "MOST_CHUNK_ROWS", 8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_row_is_the_teachers_of_the_view_made_again(kind: str, tmp_path: Path) -> None:
    dataset, teacher, views = KINDS[kind]
    finding = run(dataset, teacher, tmp_path / "f.zarr", views=views)
    found = open_splits(tmp_path / "f.zarr")
    assert list(found) == ["train", "validation", "test", "views"]
    store, split = found["views"], dataset.splits["train"]
    recorded = Views.from_json(store.spec.made_by["views"])
    assert recorded == views
    seen = Viewed(split.inputs, split.ids, recorded, dataset.modality)
    alone = [teacher.embed(teacher.prepare([view])).features for view in seen]
    np.testing.assert_allclose(store.features(), np.concatenate(alone), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(store.ids(), [i for i in split.ids for _ in range(views.count)])
    assert split.labels is not None
    np.testing.assert_array_equal(store.labels()[1 :: views.count], split.labels)
    assert store.spec.views == views.count
    assert store.spec.classes == dataset.classes
    assert store.spec.made_by["split"] == "views"
    assert store.spec.made_by["views_digest"] == seen.digest()
    assert [(one.split, one.rows) for one in finding.splits][3] == ("views", 37 * views.count)
    assert finding.rows_written == 54 + 37 * views.count
    clean = found["train"]
    assert clean.spec.views == 1
    assert "views" not in clean.spec.made_by


def test_clean_splits_are_the_same_with_and_without_views(tmp_path: Path) -> None:
    dataset, teacher, views = KINDS["image"]
    run(dataset, teacher, tmp_path / "with" / "f.zarr", views=views)
    run(dataset, teacher, tmp_path / "without" / "f.zarr")
    ours, theirs = (open_splits(tmp_path / name / "f.zarr") for name in ("with", "without"))
    assert {name: ours[name].digest for name in theirs} == {n: s.digest for n, s in theirs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_workers_change_no_byte_of_views(kind: str, tmp_path: Path) -> None:
    dataset, teacher, views = KINDS[kind]
    for workers in (0, 2):
        run(dataset, teacher, tmp_path / str(workers) / "f.zarr", workers=workers, views=views)
    assert digests(tmp_path / "0") == digests(tmp_path / "2")


def test_what_is_added_later_leaves_what_is_there(tmp_path: Path) -> None:
    dataset, teacher, views = KINDS["image"]
    root = tmp_path / "f.zarr"
    run(dataset, teacher, root)
    before = digests(root)
    assert run(dataset, teacher, root, views=views).rows_written == 37 * 3
    assert run(dataset, teacher, root, views=views, pool=unlabeled()).rows_written == 8 * 3
    assert run(dataset, teacher, root, views=views, pool=unlabeled()).rows_written == 0
    assert run(dataset, teacher, root).rows_written == 0  # they may stay where none are asked for
    after = digests(root)
    assert {name: after[name] for name in before} == before
    run(dataset, teacher, tmp_path / "whole" / "f.zarr", views=views, pool=unlabeled())
    assert after == digests(tmp_path / "whole" / "f.zarr")


def test_killed_among_the_views_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """``kill -9`` after the clean rows: mixed views, a pool, and a map."""
    command = [sys.executable, "-m", "tests.extract_examples"]
    arguments = ["views", "2"]
    root = tmp_path / "killed" / "f.zarr"
    process = subprocess.Popen(
        [*command, str(root), *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for _ in range(20):  # batches, of which the clean rows are fifteen
        assert process.stdout.readline()
    time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    left = {name: (root / name).is_dir() for name in ("test", "views", "unlabeled")}
    assert left == {"test": True, "views": True, "unlabeled": False}
    for part in ("killed", "whole"):
        place = str(tmp_path / part / "f.zarr")
        subprocess.run([*command, place, *arguments], check=True, stdout=subprocess.DEVNULL)
    whole, gone_on = (open_splits(tmp_path / part / "f.zarr") for part in ("whole", "killed"))
    assert {n: s.digest for n, s in gone_on.items()} == {n: s.digest for n, s in whole.items()}
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_a_damaged_view_is_made_again(tmp_path: Path) -> None:
    dataset, teacher, views = KINDS["mixed"]
    root = tmp_path / "f.zarr"
    run(dataset, teacher, root, views=views)
    before = digests(root)
    file = root / "views" / "features" / "c.4.0"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(bytes(data))
    assert [damage.chunk for damage in verify_store(root / "views")] == [4]
    assert run(dataset, teacher, root, views=views, repair=True).rows_written == 8
    assert digests(root) == before


OTHERS: dict[str, dict[str, Any]] = {
    "seed is 4 there and 5 is asked for": {"seed": 5},
    "count is 3 there and 2 is asked for": {"count": 2},
    "augment is crop-flip there and strong is asked for": {"augment": "strong"},
    "mix is none there and mixup is asked for": {"mix": "mixup"},
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("difference", OTHERS)
def test_other_views_are_refused_by_what_differs(
    difference: str, finished: bool, tmp_path: Path
) -> None:
    dataset, teacher, views = KINDS["image"]
    root = tmp_path / "f.zarr"
    run(dataset, teacher, root, views=views)
    if not finished:
        spec = open_store(root / "views").spec
        root = tmp_path / "begun.zarr"
        create_store(root / "views", spec).close()
    before = digests(root)
    asked = Views(**{**views.describe(), **OTHERS[difference]})
    with pytest.raises(StoreMismatchError, match=f"views holds other views: {difference}"):
        run(dataset, teacher, root, views=asked)
    assert digests(root) == before


def test_a_pool_of_other_views_is_refused_too(tmp_path: Path) -> None:
    dataset, teacher, views = KINDS["image"]
    root = tmp_path / "f.zarr"
    run(dataset, teacher, root, pool=unlabeled())
    match = "unlabeled holds other views: count is none there and 3 is asked for"
    with pytest.raises(StoreMismatchError, match=match):
        run(dataset, teacher, root, views=views, pool=unlabeled())


def test_views_that_would_not_be_the_same_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a library draws otherwise in another version: some would be of the old one."""
    dataset, teacher, views = KINDS["image"]
    run(dataset, teacher, tmp_path / "f.zarr", views=views)
    monkeypatch.setitem(augmentations.NAMED, "crop-flip", augmentations.augmentation("crop"))
    with pytest.raises(StoreMismatchError, match=r"views in .* cannot be made again as they were"):
        run(dataset, teacher, tmp_path / "f.zarr", views=views)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_pool_is_stored_without_labels_and_says_where_it_is_from(
    kind: str, tmp_path: Path
) -> None:
    dataset, teacher, _ = KINDS[kind]
    pool = unlabeled(kind)
    finding = run(dataset, teacher, tmp_path / "f.zarr", pool=pool)
    store = open_splits(tmp_path / "f.zarr")["unlabeled"]
    split = pool.splits["train"]
    alone = [teacher.embed(teacher.prepare([entry])) for entry in split.inputs]
    np.testing.assert_allclose(
        store.features(), np.concatenate([one.features for one in alone]), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(store.ids(), split.ids)
    assert (store.spec.labelled, store.spec.classes, store.spec.views) == (False, (), 1)
    assert store.spec.logits == (2 if kind == "text" else 0)  # the teacher's own cost no labels
    made_by = store.spec.made_by
    assert (made_by["dataset"], made_by["fingerprint"]) == ("others", "sha256:pool")
    assert "views" not in made_by
    assert finding.splits[-1].split == "unlabeled"


def test_labels_that_a_pool_happens_to_have_are_not_stored(tmp_path: Path) -> None:
    dataset, teacher, _ = KINDS["image"]
    run(dataset, teacher, tmp_path / "f.zarr", pool=images())
    spec = open_store(tmp_path / "f.zarr" / "unlabeled").spec
    assert (spec.labelled, spec.classes) == (False, ())


def test_with_views_the_pool_has_as_many_of_its_own(tmp_path: Path) -> None:
    dataset, teacher, views = KINDS["mixed"]
    run(dataset, teacher, tmp_path / "f.zarr", views=views, pool=unlabeled())
    store, split = open_store(tmp_path / "f.zarr" / "unlabeled"), unlabeled().splits["train"]
    seen = Viewed(split.inputs, split.ids, views, "image")
    expected = [teacher.embed(teacher.prepare([view])).features for view in seen]
    np.testing.assert_allclose(store.features(), np.concatenate(expected), rtol=1e-5, atol=1e-6)
    assert (store.spec.rows, store.spec.views) == (16, 2)
    assert store.spec.made_by["views"] == views.describe()


def test_a_pool_of_another_modality_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="others hold texts, and images holds images"):
        run(images(), image_teacher(), tmp_path / "f.zarr", pool=unlabeled("text"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["gaussian", "hadamard"])
def test_projected_as_they_are_made_rows_are_the_projected_ones(
    kind: str, dtype: str, tmp_path: Path
) -> None:
    dataset, teacher, views = KINDS["text"]
    projection = make_projection(kind, dim_in=6, dim_out=2, seed=3)
    finding = run(
        dataset, teacher, tmp_path / "k.zarr", views=views, dtype=dtype, projection=projection
    )
    run(dataset, teacher, tmp_path / "d.zarr", views=views)
    narrow, wide = (open_splits(tmp_path / name) for name in ("k.zarr", "d.zarr"))
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    for name, store in wide.items():
        expected = store.features() @ projection.matrix
        np.testing.assert_allclose(
            narrow[name].features(), expected, rtol=tolerance, atol=tolerance
        )
        np.testing.assert_array_equal(narrow[name].logits(), store.logits())
        assert narrow[name].spec.made_by["projection"] == projection.describe()
        assert narrow[name].spec.dtype == dtype
    assert finding.dim == 2
    widths = {store.spec.dim for store in narrow.values()}
    assert widths == {2}


def test_no_row_of_full_width_is_ever_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 512 numbers each, four are kept: everything on disk together is smaller than one chunk."""
    written: list[int] = []
    write = StoreWriter.write

    def spied(self: Any, index: int, **rows: Any) -> None:
        written.append(rows["features"].shape[1])
        write(self, index, **rows)

    monkeypatch.setattr(StoreWriter, "write", spied)
    teacher = text_teacher(dim=512)
    projection = make_projection("gaussian", dim_in=512, dim_out=4, seed=0)
    run(texts(), teacher, tmp_path / "f.zarr", projection=projection)
    assert set(written) == {4}
    chunks = [file for file in tmp_path.rglob("c.*") if file.is_file()]
    assert max(file.stat().st_size for file in chunks) < 8 * 512 * 4 / 10


def test_another_map_is_refused(tmp_path: Path) -> None:
    dataset, teacher, _ = KINDS["text"]
    maps = [make_projection("gaussian", dim_in=6, dim_out=2, seed=seed) for seed in (0, 1)]
    run(dataset, teacher, tmp_path / "f.zarr", projection=maps[0])
    with pytest.raises(StoreMismatchError, match=r"made_by\.projection\.seed is 0 there and 1"):
        run(dataset, teacher, tmp_path / "f.zarr", projection=maps[1])
    with pytest.raises(StoreMismatchError, match="dim is 2 there and 6 here"):
        run(dataset, teacher, tmp_path / "f.zarr")


def test_features_that_are_no_numbers_name_the_example_under_a_map_too(tmp_path: Path) -> None:
    teacher = text_teacher()
    with torch.no_grad():
        teacher.module.get_parameter("network.table.weight")[:, 0] = float("nan")
    projection = make_projection("gaussian", dim_in=6, dim_out=2, seed=0)
    with pytest.raises(InvalidRowsError, match=r"example 1000 .*: features hold nan"):
        run(texts(), teacher, tmp_path / "f.zarr", projection=projection)
