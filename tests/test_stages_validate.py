"""Validation of stores: sound maps pass, broken ones fail, figures agree with the definitions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.neighbors import KNeighborsClassifier

from distill.config import ValidateConfig
from distill.findings import Validation
from distill.neighbours import nearest_rows
from distill.progress import SILENT
from distill.stages import validate as stage
from distill.stages.validate import validate
from projections import KINDS, jl_dim, jl_eps, make_projection, participation_ratio
from stores import FeatureStore
from tests.store_builder import make_store

ROWS, DIM = 400, 96


def decaying(rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    """Clusters, and variances that fall by axis: what trained features look like."""
    rng = np.random.default_rng(11)
    scales = np.arange(1, dim + 1) ** -0.3
    centres = rng.standard_normal((8, dim)) * scales
    clouds = centres[rng.integers(0, 8, rows)] + rng.standard_normal((rows, dim)) * scales
    return (clouds + 2).astype(np.float32)


FEATURES = decaying()
LABELS = np.random.default_rng(12).integers(0, 5, ROWS)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("reference")
    return make_store(folder / "features.zarr" / "train", FEATURES, LABELS, chunk_rows=90)


def claimed(
    path: Path, rows: np.ndarray, reference: FeatureStore, *, kind: str = "gaussian", **more: Any
) -> FeatureStore:
    """A store that says it is a projection of ``reference``, whatever it is."""
    projection = {
        "kind": kind,
        "dim_in": reference.spec.dim,
        "dim_out": rows.shape[1],
        "seed": 4,
    }
    made_by = {"projection": projection, "source": reference.digest}
    rows = rows.astype(more.pop("dtype", np.float32))
    labels = reference.labels() if reference.spec.labelled else None
    return make_store(path / "train", rows, labels, made_by=made_by, chunk_rows=90, **more)


def run(reference: FeatureStore, candidate: FeatureStore, **settings: Any) -> Validation:
    return validate(
        reference,
        candidate,
        settings=ValidateConfig(**settings),
        split="train",
        progress=SILENT,
    )


def mapped(kind: str, k: int, seed: int) -> np.ndarray:
    return np.asarray(
        make_projection(kind, dim_in=DIM, dim_out=k, seed=seed).transform(FEATURES), np.float32
    )


@pytest.mark.parametrize("kind", sorted(kind for kind in KINDS if KINDS[kind].ratio_std))
@pytest.mark.parametrize("k", [1, 8, 32, 96])
def test_sound_maps_pass_at_every_width(
    tmp_path: Path, reference: FeatureStore, kind: str, k: int
) -> None:
    for seed in range(3):
        candidate = claimed(tmp_path / f"{seed}", mapped(kind, k, seed), reference, kind=kind)
        found = run(reference, candidate, queries=100, pairs=4000)
        assert not found.diagnostic_only
        assert [check.detail for check in found.checks if not check.passed] == []


def test_a_map_whose_spread_depends_on_the_data_is_measured_and_not_judged(
    tmp_path: Path, reference: FeatureStore
) -> None:
    candidate = claimed(tmp_path / "s", mapped("sparse", 32, 0), reference, kind="sparse")
    found = run(reference, candidate, queries=100, pairs=4000)
    assert found.diagnostic_only
    assert found.promise.expected_std is None
    assert 0.8 < found.distortion.mean < 1.2


def permuted(rows: np.ndarray) -> np.ndarray:
    return mapped("gaussian", 64, 0)[np.random.default_rng(0).permutation(len(rows))]


BROKEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "scaled-up-by-a-fifth": lambda _: mapped("gaussian", 64, 0) * 1.2,
    "scaled-down-by-a-fifth": lambda _: mapped("orthogonal", 64, 0) * 0.8,
    "truncated": lambda rows: rows[:, :64],
    "truncated-and-scaled": lambda rows: rows[:, :8] * np.sqrt(DIM / 8),
    "last-columns": lambda rows: rows[:, -64:] * np.sqrt(DIM / 64),
    "zeros": lambda rows: np.zeros((len(rows), 64)),
    "one-column": lambda _: mapped("gaussian", 64, 0) * (np.arange(64) < 1),
    "signs": lambda _: np.sign(mapped("gaussian", 64, 0)) / 8,
    "permuted": permuted,
    "of-other-rows": lambda rows: np.random.default_rng(1).standard_normal((len(rows), 64)),
    "without-scaling": lambda _: mapped("gaussian", 64, 0) * 8,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_known_bad_maps_fail(tmp_path: Path, reference: FeatureStore, broken: str) -> None:
    candidate = claimed(tmp_path, BROKEN[broken](FEATURES), reference)
    assert not run(reference, candidate, queries=300, pairs=4000).passed


def test_a_scale_wrong_by_a_twentieth_fails_where_the_data_can_tell(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((1500, 512)).astype(np.float32)
    reference = make_store(tmp_path / "r" / "train", rows, chunk_rows=500)
    matrix = make_projection("gaussian", dim_in=512, dim_out=256, seed=0).matrix
    sound = run(reference, claimed(tmp_path / "a", rows @ matrix, reference))
    wrong = run(reference, claimed(tmp_path / "b", rows @ matrix * 1.05, reference))
    assert sound.passed
    failed = {check.name for check in wrong.checks if not check.passed}
    assert failed == {"scale", "neighbours"}


def test_a_permutation_fails_even_where_all_distances_are_nearly_equal(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((1000, 512)).astype(np.float32)
    reference = make_store(tmp_path / "r" / "train", rows, chunk_rows=500)
    matrix = make_projection("gaussian", dim_in=512, dim_out=64, seed=0).matrix
    candidate = claimed(tmp_path / "a", (rows @ matrix)[::-1], reference)
    found = run(reference, candidate)
    assert [check.name for check in found.checks if not check.passed] == ["neighbours"]


def test_a_map_that_turns_only_must_keep_every_distance(tmp_path: Path) -> None:
    reference = make_store(tmp_path / "r" / "train", FEATURES, chunk_rows=90)
    turned = mapped("orthogonal", DIM, 0)
    sound = run(reference, claimed(tmp_path / "a", turned, reference, kind="orthogonal"))
    assert sound.passed
    assert sound.recall == 1.0
    assert sound.distortion.std < 1e-5
    wrong = run(reference, claimed(tmp_path / "b", turned * 1.01, reference, kind="orthogonal"))
    assert not wrong.passed


def test_float16_rows_pass(tmp_path: Path, reference: FeatureStore) -> None:
    half = claimed(tmp_path, mapped("orthogonal", DIM, 0), reference, dtype=np.float16)
    assert run(reference, half).passed


def test_every_figure_agrees_with_its_definition(tmp_path: Path, reference: FeatureStore) -> None:
    rows = mapped("gaussian", 24, 7)
    found = run(reference, claimed(tmp_path, rows, reference), neighbours=5, eps=0.4)
    ids = reference.ids()
    truth = nearest_rows(FEATURES, ids, FEATURES, ids, k=5).rows
    kept = nearest_rows(rows, ids, rows, ids, k=5).rows
    shares = [len(set(a) & set(b)) / 5 for a, b in zip(truth, kept, strict=True)]
    assert (found.rows, found.queries, found.k) == (ROWS, ROWS, 5)
    assert found.recall == pytest.approx(np.mean(shares))
    assert 0.1 < found.recall < 0.9
    assert found.promise.lemma_dim == jl_dim(ROWS, 0.4)
    assert found.promise.lemma_eps == jl_eps(ROWS, 24)
    assert found.promise.expected_std == pytest.approx(np.sqrt(2 / 24))
    ratio = participation_ratio(FEATURES)
    assert found.promise.participation_ratio == pytest.approx(ratio, rel=1e-4)
    assert found.promise.shared_shift == pytest.approx(np.sqrt(2 / 24 / ratio), rel=1e-4)
    first, second = np.triu_indices(ROWS, 1)
    before = ((FEATURES[first] - FEATURES[second]) ** 2).sum(axis=1)
    after = ((rows[first] - rows[second]) ** 2).sum(axis=1)
    all_ratios = after / before  # 20,000 sampled of 79,800: within five standard errors
    assert found.distortion.mean == pytest.approx(all_ratios.mean(), abs=5 * 0.3 / 141)
    assert found.distortion.std == pytest.approx(all_ratios.std(), rel=0.05)
    assert found.distortion.p99 == pytest.approx(np.percentile(all_ratios, 99), rel=0.05)
    assert found.distortion.within_eps == pytest.approx(
        np.mean(np.abs(all_ratios - 1) <= 0.4), abs=0.02
    )
    assert found.rank_correlation == pytest.approx(spearmanr(before, after).statistic, abs=0.03)
    assert (found.kind, found.dim_in, found.dim_out, found.seed) == ("gaussian", DIM, 24, 4)
    assert found.reference == "features.zarr/train"


def test_votes_agree_with_scikit_learn_where_no_votes_tie(tmp_path: Path) -> None:
    rows = decaying(200)
    labels = np.random.default_rng(0).integers(0, 2, 200)  # two classes, three votes: no tie
    store = make_store(tmp_path / "train", rows, labels)
    found = run(store, store, neighbours=3)
    hits = 0
    for row in range(200):
        others = np.arange(200) != row
        fitted = KNeighborsClassifier(3).fit(rows[others], labels[others])
        hits += int(fitted.predict(rows[row : row + 1])[0] == labels[row])
    assert found.knn_accuracy_reference == found.knn_accuracy_candidate == hits / 200


def test_duplicates_count_as_hits_and_have_no_ratio(tmp_path: Path) -> None:
    rows = np.repeat(decaying(20), 20, axis=0)  # each row 20 times, more than k
    reference = make_store(tmp_path / "r" / "train", rows)
    projection = make_projection("gaussian", dim_in=DIM, dim_out=48, seed=0)
    candidate = claimed(tmp_path / "c", np.asarray(projection.transform(rows)), reference)
    found = run(reference, candidate)
    assert found.recall == 1.0  # any ten of the nineteen at distance 0
    assert found.distortion.identical == pytest.approx(20000 * 19 / 399, rel=0.1)
    assert found.distortion.pairs + found.distortion.identical == 20000
    assert found.passed


def test_k_is_clipped_to_the_other_rows(tmp_path: Path) -> None:
    store = make_store(tmp_path / "train", decaying(6))
    found = run(store, store, neighbours=10)
    assert (found.k, found.recall, found.knn_accuracy_reference) == (5, 1.0, None)


def test_views_of_one_example_are_no_neighbours_of_one_another(tmp_path: Path) -> None:
    rows = np.repeat(decaying(30), 2, axis=0)
    rows[1::2] += 1e-3  # the other view lies nearest
    labels = np.repeat(np.arange(30), 2)  # and is the only other row of its class
    store = make_store(tmp_path / "train", rows, labels, views=2)
    found = run(store, store, neighbours=100)
    assert found.k == 58
    assert found.knn_accuracy_reference == 0.0


def test_another_store_of_equal_width_is_compared_but_not_judged(
    tmp_path: Path, reference: FeatureStore
) -> None:
    noisy = FEATURES + np.float32(0.1) * np.random.default_rng(0).standard_normal(
        FEATURES.shape
    ).astype(np.float32)
    found = run(reference, make_store(tmp_path / "n" / "train", noisy, LABELS))
    assert (found.kind, found.diagnostic_only, found.passed) == ("", True, True)
    assert [(check.name, check.passed) for check in found.checks] == [("recall", True)]
    assert found.promise.expected_std is found.promise.shared_shift is None
    shuffled = run(reference, make_store(tmp_path / "s" / "train", FEATURES[::-1].copy(), LABELS))
    assert [(check.name, check.passed) for check in shuffled.checks] == [("recall", False)]
    assert shuffled.passed  # a diagnosis, not a verdict


def test_a_data_aware_map_is_not_failed_by_distances(
    tmp_path: Path, reference: FeatureStore
) -> None:
    centred = FEATURES - FEATURES.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:8]
    found = run(reference, claimed(tmp_path, centred @ axes.T, reference, kind="pca"))
    assert found.distortion.mean < 0.8
    assert (found.kind, found.diagnostic_only, found.passed) == ("pca", True, True)


def test_a_projection_of_another_store_is_not_held_to_this_one(
    tmp_path: Path, reference: FeatureStore
) -> None:
    elsewhere = make_store(tmp_path / "e" / "train", FEATURES * 3, LABELS)
    candidate = claimed(tmp_path / "c", mapped("gaussian", 8, 0) * 3, elsewhere)
    assert run(elsewhere, candidate).kind == "gaussian"
    assert run(reference, candidate).kind == ""


EXTRACTED: dict[str, Any] = {
    "stage": "extract", "teacher": "timm/resnet50", "weights": "sha256:1", "layer": "",
    "preprocessing": {"image_size": 32}, "fingerprint": "sha256:data", "split": "train",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "gaussian"),
        ({"versions": {"torch": "another"}}, "gaussian"),
        ({"weights": "sha256:2"}, ""),
        ({"preprocessing": {"image_size": 64}}, ""),
        ({"layer": "layer3"}, ""),
        ({"fingerprint": "sha256:others"}, ""),
        ({"views": {"count": 2}}, ""),
        ({"source": "sha256:elsewhere"}, ""),
    ],
    ids=repr,
)
def test_a_map_made_with_the_features_is_judged_beside_those_of_the_same_teacher(
    tmp_path: Path, change: dict[str, Any], kind: str
) -> None:
    """It names no source: another teacher's rows say nothing about it."""
    made_by = {**EXTRACTED, "versions": {"torch": "this"}}
    reference = make_store(tmp_path / "r" / "train", FEATURES, LABELS, made_by=made_by)
    projection = {"kind": "gaussian", "dim_in": DIM, "dim_out": 8, "seed": 0}
    made_by = {**EXTRACTED, **change, "projection": projection}
    rows = mapped("gaussian", 8, 0) * (1 if kind else 3)
    candidate = make_store(tmp_path / "c" / "train", rows, LABELS, made_by=made_by)
    found = run(reference, candidate)
    assert (found.kind, found.diagnostic_only, found.passed) == (kind, not kind, True)


def test_stores_larger_than_memory_give_the_same_figures(
    tmp_path: Path, reference: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = claimed(tmp_path, mapped("gaussian", 24, 7), reference)
    whole = run(reference, candidate, queries=150)
    monkeypatch.setattr(stage, "HELD", 0)
    monkeypatch.setattr(stage, "BLOCK", 4 * DIM * 37)
    blocks = run(reference, candidate, queries=150)
    figures = [
        {**v.to_json(), "seconds": 0, "promise": 0, "checks": [c.passed for c in v.checks]}
        for v in (whole, blocks)
    ]
    assert figures[0] == figures[1]


def test_small_stores_are_read_once(
    tmp_path: Path, reference: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = claimed(tmp_path, mapped("gaussian", 24, 7), reference)
    read: dict[Path, int] = {}
    features = FeatureStore.features

    def counted(self: FeatureStore, start: int = 0, stop: int | None = None) -> np.ndarray:
        read[self.path] = read.get(self.path, 0) + (stop or self.spec.rows) - start
        return features(self, start, stop)

    monkeypatch.setattr(FeatureStore, "features", counted)
    run(reference, candidate)
    assert list(read.values()) == [ROWS, ROWS]


def test_the_seed_chooses_the_sample(tmp_path: Path, reference: FeatureStore) -> None:
    candidate = claimed(tmp_path, mapped("gaussian", 8, 0), reference)
    first, again, other = (
        {**run(reference, candidate, queries=50, pairs=100, seed=seed).to_json(), "seconds": 0}
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["distortion"]["mean"] != other["distortion"]["mean"]
    assert first["rank_correlation"] != other["rank_correlation"]
    recalls = {run(reference, candidate, queries=50, seed=seed).recall for seed in range(4)}
    assert len(recalls) > 1  # the queries too
