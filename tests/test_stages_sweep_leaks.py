"""No held-out, validation or test row is in a fit it should not be in, and a leak is caught."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.findings import Sweep
from distill.stages import sweep as stage
from distill.sweeping.cells import Cell
from distill.sweeping.folds import Partition, Split, partition
from distill.sweeping.parts import Folded
from distill.sweeping.scoring import TestCell
from projections import Moments
from tests import sweep_examples
from tests.sweep_examples import CLASSES, Data, data, stores_of, swept

KINDS = ("gaussian", "pca", "discriminant", "head-svd", "fisher", "learned")
Digests = dict[str, tuple[str, str]]


def digests(folder: Path, seed: int) -> Digests:
    """Of the maps and heads that a seed fitted in cross-validation."""
    cells = [Cell.load(path) for path in folder.glob(f"sweep/*/cells/*-s{seed}.json")]
    return {cell.name: (cell.map_digest, cell.head_digest) for cell in cells}


def digests_on_test(folder: Path) -> Digests:
    """Of the maps and heads that were scored on test."""
    cells = {path.name: TestCell.load(path) for path in folder.glob("sweep/*/test/*.json")}
    return {name: (cell.map_digest, cell.head_digest) for name, cell in cells.items()}


def other_rows(rows: Data, numbers: np.ndarray) -> Data:
    """The same data, but for these rows of train and validation, which are anything at all."""
    changed = {split: (features.copy(), labels) for split, (features, labels) in rows.items()}
    first = len(rows["train"][0])
    rng = np.random.default_rng(9)
    for number in numbers:
        split, row = ("train", number) if number < first else ("validation", number - first)
        changed[split][0][row] = 5 * rng.standard_normal(rows["train"][0].shape[1])
    return changed


def held_out(rows: Data, seed: int) -> np.ndarray:
    labels = np.concatenate([rows["train"][1], rows["validation"][1]])
    return partition(labels, 0).split(seed).held


def fits_with_other_held_rows(folder: Path, kinds: tuple[str, ...]) -> tuple[Digests, Digests]:
    """Digests of seed 0's fits, with its held-out rows as they are and with others there."""
    rows = data()
    found = []
    for name, those in (("as", rows), ("other", other_rows(rows, held_out(rows, 0)))):
        stores = stores_of(folder / name, those)
        swept(stores, folder / name, kinds=kinds, factors=(3,), seeds=1)
        found.append(digests(folder / name, 0))
    return found[0], found[1]


def test_fits_do_not_depend_on_held_out_rows_but_on_all_others(tmp_path: Path) -> None:
    first, second = fits_with_other_held_rows(tmp_path, KINDS)
    assert first == second
    assert len(first) == 1 + len(KINDS)
    rows = data()
    one = partition(np.concatenate([rows["train"][1], rows["validation"][1]]), 0).split(0).fit[:1]
    folder = tmp_path / "fitted"
    swept(stores_of(folder, other_rows(rows, one)), folder, kinds=KINDS, factors=(3,), seeds=1)
    for name, (map_digest, head_digest) in digests(folder, 0).items():
        assert head_digest != first[name][1]
        drawn = name.startswith(("full", "gaussian"))
        assert (map_digest == first[name][0]) is drawn


def leak_into_heads(split: Callable[[Partition, int], Split]) -> Callable[[Partition, int], Split]:
    def leaking(drawn: Partition, held: int) -> Split:
        sound = split(drawn, held)
        return Split(
            fit=np.sort(np.append(sound.fit, sound.held[0])),
            calibrate=sound.calibrate,
            held=sound.held,
        )

    return leaking


def test_one_leaked_row_in_a_head_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partition, "split", leak_into_heads(Partition.split))
    first, second = fits_with_other_held_rows(tmp_path, ("gaussian",))
    assert all(first[name][1] != second[name][1] for name in first)


def test_moments_of_all_rows_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_all(folded: Folded, held: int) -> Moments:
        del held
        whole = folded.moments[0]
        for part in folded.moments[1:]:
            whole = whole.merge(part)
        return whole

    monkeypatch.setattr(Folded, "training_moments", of_all)
    first, second = fits_with_other_held_rows(tmp_path, ("pca", "discriminant", "head-svd"))
    for name in first:
        assert (first[name][0] != second[name][0]) is not name.startswith("full")


def test_what_is_tested_is_fitted_on_train_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_l2 = sweep_examples.HEAD.model_copy(update={"l2": (1e-1,)})  # nothing to choose
    monkeypatch.setattr(sweep_examples, "HEAD", one_l2)
    rows = data()
    first = len(rows["train"][0])
    changed = other_rows(rows, np.arange(first, first + len(rows["validation"][0])))
    for name, those in (("as", rows), ("other", changed)):
        swept(
            stores_of(tmp_path / name, those), tmp_path / name, kinds=KINDS, factors=(3,), seeds=1
        )
    assert digests_on_test(tmp_path / "as") == digests_on_test(tmp_path / "other")
    assert digests(tmp_path / "as", 0) != digests(tmp_path / "other", 0)


def choices_of(folder: Path) -> str:
    (path,) = folder.glob("sweep/*/choices.json")
    return path.read_text()


def test_no_choice_depends_on_the_test_rows(tmp_path: Path) -> None:
    rows = data()
    rng = np.random.default_rng(5)
    features, labels = rows["test"]
    changed = rows | {"test": (features[rng.permutation(len(labels))], labels)}
    found: list[Sweep] = []
    for name, those in (("as", rows), ("other", changed)):
        found.append(swept(stores_of(tmp_path / name, those), tmp_path / name, tolerance=0.1))
    assert choices_of(tmp_path / "as") == choices_of(tmp_path / "other")
    assert found[0].best.verdict == "within"
    one, other = (sweep.full.tested for sweep in found)
    assert one is not None
    assert other is not None
    assert other.accuracy.mean < 0.35 < one.accuracy.mean
    recommended = [(sweep.best.kind, sweep.best.dim_out) for sweep in found]
    assert recommended[0] == recommended[1]


def test_shuffled_labels_bring_accuracy_to_chance(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = {
        split: (features, rng.permutation(labels)) for split, (features, labels) in data().items()
    }
    found = swept(stores_of(tmp_path, rows), tmp_path, kinds=KINDS, factors=(3,))
    spread = np.sqrt(CLASSES - 1) / CLASSES  # of one row's hit, by chance
    for one in (found.full, *found.maps):
        assert abs(one.accuracy.mean - 1 / CLASSES) < 4 * spread / np.sqrt(156)
        assert one.tested is not None
        assert abs(one.tested.accuracy.mean - 1 / CLASSES) < 4 * spread / np.sqrt(160)


def test_choices_are_written_before_the_test_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "score_test", stop)
    with pytest.raises(KeyboardInterrupt):
        swept(stores_of(tmp_path, data()), tmp_path)
    assert choices_of(tmp_path)
    assert digests_on_test(tmp_path) == {}


@pytest.mark.parametrize("kind", ["head-svd", "fisher"])
def test_a_map_of_a_full_head_of_another_l2_is_scored_anew(tmp_path: Path, kind: str) -> None:
    """More seeds may choose another l2 of the full head, and the same one of the map's own."""
    stores = stores_of(tmp_path, data())
    swept(stores, tmp_path, kinds=(kind, "pca"), factors=(3,), seeds=1)
    files = {path.name.partition("-k")[0]: path for path in tmp_path.glob("sweep/*/test/*.json")}
    full = TestCell.load(files["full"])
    for name, path in files.items():
        cell = TestCell.load(path)
        assert cell.full_l2 == (full.l2 if name == kind else 0.0)
        replace(cell, full_l2=cell.full_l2 and 10 * cell.full_l2, accuracy=0.0).save(path)
    swept(stores, tmp_path, kinds=(kind, "pca"), factors=(3,), seeds=1)
    accuracies = {name: TestCell.load(path).accuracy for name, path in files.items()}
    assert accuracies[kind] > 0
    assert accuracies["pca"] == accuracies["full"] == 0
