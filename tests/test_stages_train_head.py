"""The head stage: what is chosen on what, what is kept, what is trained again, what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from distill import metrics
from distill.config import HeadConfig
from distill.errors import StageError
from distill.findings import Head, Heads, Projected
from distill.stages.train_head import train_heads
from projections import make_projection
from stores import FeatureStore
from students import load_head
from tests.progress_recorder import Told
from tests.store_builder import make_store

NAMES = ("ant", "bee", "cat", "dog")
SIZES = {"train": 240, "validation": 61, "test": 83}
DIM = 20

Splits = dict[str, FeatureStore]


def rows_of(split: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four overlapping clouds."""
    centres = np.random.default_rng(seed).standard_normal((4, DIM))
    rng = np.random.default_rng(sum(split.encode()))
    labels = rng.permutation(np.arange(SIZES[split]) % 4)
    return (centres[labels] + rng.standard_normal((len(labels), DIM))).astype(np.float32), labels


def full_stores(folder: Path, seed: int = 0, **labels: np.ndarray) -> Splits:
    stores = {}
    for split in SIZES:
        features, own = rows_of(split, seed)
        stores[split] = make_store(
            folder / "features.zarr" / split, features, labels.get(split, own), classes=NAMES
        )
    return stores


def projected_stores(folder: Path, full: Splits, k: int) -> tuple[Projected, Splits]:
    name = f"gaussian-k{k}-s0"
    projection = make_projection("gaussian", dim_in=DIM, dim_out=k, seed=0)
    splits = {
        split: make_store(
            folder / f"{name}.zarr" / split,
            np.asarray(projection.transform(store.features()), np.float32),
            store.labels(),
            classes=NAMES,
        )
        for split, store in full.items()
    }
    found = Projected(
        name=name,
        kind="gaussian",
        dim_in=DIM,
        dim_out=k,
        seed=0,
        factor_asked=DIM / k,
        factor=DIM / k,
        rows=sum(SIZES.values()),
        bytes=0,
        validation=None,
    )
    return found, splits


def run(
    full: Splits,
    folder: Path,
    *projected: tuple[Projected, Splits],
    told: Told | None = None,
    settings: HeadConfig | None = None,
) -> Heads:
    return train_heads(
        full,
        projected,
        folder=folder,
        settings=settings or HeadConfig(),
        progress=told or Told(),
    )


def times(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in sorted(folder.rglob("*.*"))}


def test_the_full_head_comes_first_and_the_rest_are_compared_with_it(tmp_path: Path) -> None:
    full = full_stores(tmp_path)
    told = Told()
    wide, narrow = (projected_stores(tmp_path, full, k) for k in (10, 2))
    found = run(full, tmp_path / "heads", wide, narrow, told=told).heads
    assert [head.name for head in found] == ["full", "gaussian-k10-s0", "gaussian-k2-s0"]
    assert [head.dim_out for head in found] == [20, 10, 2]
    assert [head.factor for head in found] == [1, 2, 10]
    assert found[0].difference is None
    assert found[0].kind == ""
    assert found[1].dtype == wide[1]["train"].spec.dtype
    assert told.steps == 3
    labels = full["test"].labels()
    predicted = {
        head.name: load_file(tmp_path / "heads" / head.name / "predictions.safetensors")
        for head in found
    }
    for head in found[1:]:
        ours, theirs = (predicted[name]["test_predicted"] for name in (head.name, "full"))
        assert head.difference == metrics.difference(labels, ours, theirs, name="full")
        assert head.difference.value == pytest.approx(head.test.accuracy - found[0].test.accuracy)
    assert found[2].test.accuracy < found[0].test.accuracy
    assert found[0].test.accuracy > 0.9


def test_what_lies_on_the_disk_is_what_was_found(tmp_path: Path) -> None:
    full = full_stores(tmp_path)
    narrow = projected_stores(tmp_path, full, 5)
    found = run(full, tmp_path / "heads", narrow).heads[1]
    folder = tmp_path / "heads" / "gaussian-k5-s0"
    assert sorted(file.name for file in folder.iterdir()) == [
        "head.json",
        "head.safetensors",
        "predictions.safetensors",
    ]
    assert Head.load(folder / "head.json") == found
    head, meta = load_head(folder / "head.safetensors", dim=5, classes=NAMES)
    assert meta["made_from"]["stores"] == {name: store.digest for name, store in narrow[1].items()}
    predicted = load_file(folder / "predictions.safetensors")
    for split in ("validation", "test"):
        store = narrow[1][split]
        np.testing.assert_array_equal(predicted[f"{split}_ids"], store.ids())
        np.testing.assert_array_equal(
            predicted[f"{split}_predicted"], head.predict(store.features())
        )
    tested = predicted["test_predicted"]
    assert found.test == metrics.score(narrow[1]["test"].labels(), tested, NAMES)
    validated = predicted["validation_predicted"]
    assert found.validation_accuracy == metrics.accuracy(
        narrow[1]["validation"].labels(), validated
    )
    assert (head.l2, head.converged) == (found.l2, found.converged)


def test_the_test_split_decides_nothing(tmp_path: Path) -> None:
    first = full_stores(tmp_path / "a")
    labels = np.roll(first["test"].labels(), 1)
    second = full_stores(tmp_path / "b", test=labels)
    heads = [
        run(stores, tmp_path / name).heads[0] for name, stores in (("1", first), ("2", second))
    ]
    weights = [load_head(tmp_path / name / "full" / "head.safetensors")[0] for name in "12"]
    assert heads[0].l2 == heads[1].l2
    np.testing.assert_array_equal(weights[0].weight, weights[1].weight)
    assert heads[0].test.accuracy != heads[1].test.accuracy


def test_the_test_split_is_read_once_and_not_at_all_when_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = full_stores(tmp_path)
    read: list[str] = []
    features = FeatureStore.features

    def counted(self: FeatureStore, start: int = 0, stop: int | None = None) -> np.ndarray:
        read.append(self.path.name)
        return features(self, start, stop)

    monkeypatch.setattr(FeatureStore, "features", counted)
    run(full, tmp_path / "heads")
    assert read.count("test") == 1
    assert read.index("test") == len(read) - 1  # after everything was chosen
    read.clear()
    run(full, tmp_path / "heads")
    assert read == []


def test_finished_heads_are_kept(tmp_path: Path) -> None:
    full = full_stores(tmp_path)
    narrow = projected_stores(tmp_path, full, 5)
    first = run(full, tmp_path / "heads", narrow)
    before = times(tmp_path / "heads")
    told = Told()
    assert run(full, tmp_path / "heads", narrow, told=told) == first
    assert times(tmp_path / "heads") == before
    assert told.said == []
    more = run(full, tmp_path / "heads", narrow, projected_stores(tmp_path, full, 3), told=told)
    assert len(more.heads) == 3
    assert times(tmp_path / "heads").items() > before.items()


def test_a_head_of_other_settings_or_stores_is_trained_again_and_it_is_said(
    tmp_path: Path,
) -> None:
    full = full_stores(tmp_path / "a")
    narrow = projected_stores(tmp_path / "a", full, 5)
    run(full, tmp_path / "heads", narrow)
    told = Told()
    other = run(full, tmp_path / "heads", narrow, settings=HeadConfig(l2=(1.0,)), told=told)
    assert [head.l2 for head in other.heads] == [1.0, 1.0]
    assert told.said == [
        f"the head {name} was trained on other stores or settings and is trained again"
        for name in ("full", "gaussian-k5-s0")
    ]
    elsewhere = full_stores(tmp_path / "b", seed=1)
    told = Told()
    again = run(elsewhere, tmp_path / "heads", settings=HeadConfig(l2=(1.0,)), told=told)
    assert len(told.said) == 1
    assert again.heads[0].test != other.heads[0].test


def test_a_projected_head_is_compared_again_when_the_full_features_change(tmp_path: Path) -> None:
    full = full_stores(tmp_path / "a")
    narrow = projected_stores(tmp_path / "a", full, 5)
    first = run(full, tmp_path / "heads", narrow).heads[1]
    noisy = {
        split: make_store(
            tmp_path / "n" / split,
            store.features()[:, :3],
            store.labels(),
            ids=store.ids(),
            classes=NAMES,
        )
        for split, store in full.items()
    }
    second = run(noisy, tmp_path / "heads", narrow).heads[1]
    assert first.test == second.test
    assert first.difference != second.difference


@pytest.mark.parametrize("name", ["head.safetensors", "predictions.safetensors", "head.json"])
@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_damaged_head_is_trained_again(tmp_path: Path, name: str, harm: str) -> None:
    full = full_stores(tmp_path)
    first = run(full, tmp_path / "heads").heads[0]
    file = tmp_path / "heads" / "full" / name
    whole = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[: len(whole) // 2])
    told = Told()
    second = run(full, tmp_path / "heads", told=told).heads[0]
    assert dataclasses.replace(second, seconds=0) == dataclasses.replace(first, seconds=0)
    if name != "head.json":
        assert file.read_bytes() == whole
    unfinished = (name, harm) == ("head.json", "missing")
    assert len(told.said) == (0 if unfinished else 1)
    assert all("\n" not in line and "trained again" in line for line in told.said)


def test_killed_before_the_record_a_head_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = full_stores(tmp_path)
    run(full, tmp_path / "heads")

    def killed(self: Head, path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Head, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(full, tmp_path / "heads", settings=HeadConfig(l2=(1.0,)))
    assert not (tmp_path / "heads" / "full" / "head.json").exists()
    assert run(full, tmp_path / "heads").heads[0].l2 != 1.0


def test_a_fit_that_ran_out_of_iterations_is_noted(tmp_path: Path) -> None:
    told = Told()
    settings = HeadConfig(l2=(1e-4,), max_iterations=1)
    found = run(full_stores(tmp_path), tmp_path / "heads", settings=settings, told=told)
    assert not found.heads[0].converged
    assert found.notes == (
        "the head full had not converged after 1 iterations; raise head.max_iterations",
    )
    assert told.said == list(found.notes)


def test_classes_without_names_are_called_by_their_number(tmp_path: Path) -> None:
    stores = {
        split: make_store(tmp_path / split, *rows_of(split)) for split in ("train", "validation")
    }
    features, labels = rows_of("test")
    stores["test"] = make_store(tmp_path / "test", features, labels + 2)  # 5: never seen
    head = run(stores, tmp_path / "heads").heads[0]
    assert head.classes == 6
    assert head.test.worst_class in {"2", "3", "4", "5"}


def refused(full: Splits, folder: Path, *projected: tuple[Projected, Splits]) -> str:
    with pytest.raises(StageError) as caught:
        run(full, folder / "heads", *projected)
    assert "\n" not in str(caught.value)
    assert not list((folder / "heads").rglob("head.json"))
    return str(caught.value).replace(str(folder), "RUN")


def test_stores_that_cannot_teach_a_head_are_refused(tmp_path: Path) -> None:
    single = full_stores(tmp_path, train=np.full(SIZES["train"], 2))
    assert refused(single, tmp_path).startswith("RUN/features.zarr: all 240 training rows are of")


def test_a_projected_store_of_other_rows_is_refused(tmp_path: Path) -> None:
    full = full_stores(tmp_path)
    found, splits = projected_stores(tmp_path, full, 5)
    test = splits["test"]
    turned = make_store(
        tmp_path / "t" / "test",
        test.features(),
        test.labels(),
        ids=test.ids()[::-1],
        classes=NAMES,
    )
    say = "gaussian-k5-s0 does not hold the test rows of the full features; project the features"
    assert refused(full, tmp_path, (found, splits | {"test": turned})).startswith(say)
    del splits["test"]
    assert refused(full, tmp_path, (found, splits)) == (
        "gaussian-k5-s0 has no test split; project the features again"
    )


def test_a_head_that_was_fitted_on_another_device_is_kept(tmp_path: Path) -> None:
    full = full_stores(tmp_path)
    settings, folder = HeadConfig(), tmp_path / "heads"
    first = train_heads(
        full, (), folder=folder, settings=settings, progress=Told(), device="cpu:0"
    )  # torch's
    before = times(folder)
    again = train_heads(full, (), folder=folder, settings=settings, progress=Told())
    assert times(folder) == before
    assert again == first
    other = train_heads(full, (), folder=tmp_path / "other", settings=settings, progress=Told())
    assert other.heads[0].test.accuracy == pytest.approx(first.heads[0].test.accuracy, abs=0.02)
    with pytest.raises(StageError, match="cannot be put on device 'cuda:99'"):
        train_heads(
            full, (), folder=tmp_path / "n", settings=settings, progress=Told(), device="cuda:99"
        )
