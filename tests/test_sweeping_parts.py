"""The parts that a sweep measures with: streamed heads, geometry, rows, probabilities."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.neighbors import NearestNeighbors

from distill.progress import Silent
from distill.sweeping.cells import digest_of, probabilities
from distill.sweeping.crossing import Work, cross_validate
from distill.sweeping.full import full_heads, logits_of
from distill.sweeping.geometry import geometry, sampled
from distill.sweeping.moments import train_moments
from distill.sweeping.parts import fold_rows
from distill.sweeping.rows import Rows, transformed
from projections import Moments, gather_moments, make_projection
from students import fit_path
from tests.store_builder import make_store
from tests.sweep_examples import CLASSES, DIM, NAMES, data, stores_of


def cloud(rows: int, seed: int = 0, dim: int = DIM) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    centres = np.random.default_rng(99).standard_normal((CLASSES, dim))
    noise = rng.standard_normal((rows, dim)) * 2 * np.arange(1, dim + 1) ** -0.5
    return (3 + centres[labels] + noise).astype(np.float32), labels


def test_full_heads_see_the_chosen_rows_alone(tmp_path: Path) -> None:
    rows, labels = cloud(200)
    chosen = np.sort(np.random.default_rng(0).permutation(200)[:120])
    found = {}
    for name, changed in (("as", rows), ("other", np.where(np.isin(np.arange(200), chosen)[:, None],
                                                           rows, 0))):  # fmt: skip
        store = make_store(tmp_path / name, changed.astype(np.float32), labels, classes=NAMES)
        moments = gather_moments([(rows[chosen], labels[chosen])], classes=CLASSES)
        for limit in (1, 10**9):
            heads = full_heads(
                Rows([store], limit), labels, chosen, moments, l2=[1e-2], max_iterations=50
            )
            found[name, limit] = digest_of(heads)
    assert found["as", 1] == found["other", 1]
    assert found["as", 10**9] == found["other", 10**9]


def test_logits_are_read_in_blocks_and_stand_in_order(tmp_path: Path) -> None:
    rows, labels = cloud(90)
    store = make_store(tmp_path / "s", rows, labels, classes=NAMES)
    head = fit_path(rows, labels, classes=CLASSES, l2=[1e-2], max_iterations=50)[0]
    numbers = np.array([0, 5, 6, 7, 50, 89])
    for limit in (1, 10**9):
        (found,) = logits_of([head], Rows([store], limit), numbers)
        np.testing.assert_allclose(found, head.logits(rows[numbers]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("limit", [1, 60_000, 10**9])  # one map at a time, two or three, all
def test_rows_under_maps_are_the_same_held_or_read(tmp_path: Path, limit: int) -> None:
    features = data()
    stores = stores_of(tmp_path, features)
    rows = Rows([stores["train"], stores["validation"]], limit)
    everything = np.concatenate([features[split][0] for split in ("train", "validation")])
    maps = [make_projection("gaussian", dim_in=DIM, dim_out=k, seed=k) for k in (1, 3, 8, 2)]
    found = list(rows.mapped(maps))
    assert [one.shape for one in found] == [(390, k) for k in (1, 3, 8, 2)]
    for one, projection in zip(found, maps, strict=True):
        np.testing.assert_allclose(one, transformed(projection, everything), rtol=1e-5, atol=1e-6)
    assert rows.fits is (limit == 10**9)
    part = rows.store(1)
    assert part.count == 90
    np.testing.assert_array_equal(part.all(), features["validation"][0])


def test_float16_rows_are_float32_here(tmp_path: Path) -> None:
    rows, labels = cloud(30)
    store = make_store(tmp_path / "s", rows.astype(np.float16), labels, classes=NAMES)
    for limit in (1, 10**9):
        blocks = [block for _, block in Rows([store], limit).blocks()]
        assert {block.dtype.name for block in blocks} == {"float32"}
        np.testing.assert_array_equal(np.concatenate(blocks), rows.astype(np.float16))


def test_moments_of_a_training_part_are_those_of_its_rows(tmp_path: Path) -> None:
    stores = stores_of(tmp_path, data())
    rows = Rows([stores["train"], stores["validation"]], 10**9)
    labels = rows.labels()
    folded = fold_rows(rows, labels, 1, classes=CLASSES, neighbours=5)
    for held in range(5):
        chosen = folded.split(held).fit
        expected = gather_moments([(rows.all()[chosen], labels[chosen])], classes=CLASSES)
        found: Moments = folded.training_moments(held)
        np.testing.assert_array_equal(found.counts, expected.counts)
        np.testing.assert_allclose(found.means, expected.means, atol=1e-5)
        np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-5)
        sample = folded.geometries[held].sample
        assert set(sample) <= set(folded.split(held).held)
        np.testing.assert_array_equal(folded.geometries[held].rows, rows.all()[sample])


def test_train_moments_are_kept_and_made_again_when_damaged(tmp_path: Path) -> None:
    stores = stores_of(tmp_path, data())
    train = Rows([stores["train"]], 10**9)
    labels = train.labels()
    first = train_moments(train, labels, classes=CLASSES, folder=tmp_path / "m")
    (path,) = (tmp_path / "m").iterdir()
    kept = path.read_bytes()
    again = train_moments(train, labels, classes=CLASSES, folder=tmp_path / "m")
    np.testing.assert_array_equal(again.within, first.within)
    path.write_bytes(kept[:-8])
    train_moments(train, labels, classes=CLASSES, folder=tmp_path / "m")
    assert path.read_bytes() == kept
    other = Rows([stores["test"]], 10**9)
    train_moments(other, other.labels(), classes=CLASSES, folder=tmp_path / "m")
    assert len(list((tmp_path / "m").iterdir())) == 2


# --- geometry ------------------------------------------------------------------------------------


def test_geometry_of_a_map_is_what_a_plain_loop_measures() -> None:
    rows, _ = cloud(300)
    found = geometry(np.arange(300), rows, neighbours=7, seed=0)
    projection = make_projection("gaussian", dim_in=DIM, dim_out=5, seed=0)
    mapped = transformed(projection, rows)
    mean, std, recall = found.measure(mapped)
    pairs = zip(found.first, found.second, strict=True)
    ratio = [
        np.sum((mapped[a] - mapped[b]) ** 2) / np.sum((rows[a] - rows[b]) ** 2) for a, b in pairs
    ]
    assert mean == pytest.approx(np.mean(ratio), rel=1e-4)
    assert std == pytest.approx(np.std(ratio), rel=1e-4)
    truth, ours = (
        NearestNeighbors(n_neighbors=7).fit(one).kneighbors(return_distance=False)
        for one in (rows, mapped)
    )
    shared = [len(set(a) & set(b)) / 7 for a, b in zip(truth, ours, strict=True)]
    assert recall == pytest.approx(np.mean(shared))
    assert found.measure(rows) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(("before", "after"), [(100, 0), (-100, 0), (90, 90), (-90, -90), (0, 90)])
def test_geometry_is_the_same_where_float32_holds_no_squares(before: int, after: int) -> None:
    rows, _ = cloud(300)
    mapped = rows[:, :3].copy()
    plain = geometry(np.arange(300), rows, neighbours=7, seed=0).measure(mapped)
    scaled = geometry(np.arange(300), np.ldexp(rows, before), neighbours=7, seed=0)
    mean, std, recall = scaled.measure(np.ldexp(mapped, after))
    assert mean is not None
    assert std is not None
    back = 2.0 ** (2 * (before - after))
    assert (mean * back, std * back, recall) == pytest.approx(plain)


def test_geometry_of_equal_rows_and_of_one_row() -> None:
    equal = np.ones((20, 3), np.float32)
    mean, std, recall = geometry(np.arange(20), equal, neighbours=5, seed=0).measure(equal)
    assert (mean, std) == (None, None)
    assert recall == 1.0  # all are equally near
    one = geometry(np.arange(1), equal[:1], neighbours=5, seed=0)
    assert one.measure(equal[:1]) == (None, None, None)


def test_where_all_others_are_neighbours_nothing_could_be_missed() -> None:
    rows = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    assert geometry(np.arange(8), rows, neighbours=10, seed=0).measure(rows)[2] is None
    assert geometry(np.arange(8), rows, neighbours=6, seed=0).measure(rows)[2] == 1.0


def test_only_held_out_rows_are_sampled() -> None:
    held = np.arange(100, 5000, 3)
    found = sampled(held, seed=0)
    assert len(found) == 1000 == len(np.unique(found))
    assert set(found.tolist()) <= set(held.tolist())
    assert not np.array_equal(found, sampled(held, seed=1))


@given(st.integers(1, 40), st.floats(0.1, 10), st.integers(0, 99))
def test_probabilities_are_softmax(rows: int, temperature: float, seed: int) -> None:
    logits = (30 * np.random.default_rng(seed).standard_normal((rows, 5))).astype(np.float32)
    found = probabilities(logits, temperature)
    np.testing.assert_allclose(
        found, softmax(logits.astype(np.float64) / temperature, axis=1), atol=1e-12
    )


# --- memory --------------------------------------------------------------------------------------


def test_rows_that_do_not_fit_are_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.sweeping.geometry.SAMPLE", 100)
    features, labels = cloud(44_000, dim=48)
    size = features.nbytes
    store = make_store(tmp_path / "s", features, labels, classes=NAMES, chunk_rows=1000)
    del features
    work = Work(
        dims={"gaussian": (3,), "pca": (3,)}, seeds=1, classes=CLASSES, l2=(1e-2,),
        max_iterations=2, neighbours=5,
    )  # fmt: skip
    peaks = []
    for limit in (10 * size, size // 2):  # the first also loads what is loaded when needed
        tracemalloc.start()
        cross_validate(Rows([store], limit), labels, work, tmp_path / str(limit), Silent())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > 1.5 * size
    assert peaks[1] < 0.9 * size  # sampled rows, moments, one projected matrix and its copies
