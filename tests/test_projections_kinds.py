"""What every kind promises: bits from a seed, scikit-learn's manners, clear refusals."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from projections import (
    KINDS,
    GaussianProjection,
    OrthogonalProjection,
    Projection,
    ProjectionError,
    UnknownKindError,
    make_projection,
)
from projections.base import RandomProjection

ROOT = Path(__file__).resolve().parents[1]
PINNED = {
    "achlioptas": "be0bee7353b6ce30ce4c5046a45ae435defcc7561c8e91295ac3307d23606f3f",
    "gaussian": "a64d62ae3696ac3e9ea0e8b0c7736c4eb8d391ef6ef1d35a33fd93e6d968b89e",
    "hadamard": "1056293c627d5e24358c3f21d31d54cd87f45f549f5f4b20f99ed6c1f81d4eaf",
    "orthogonal": "70311ecaef2805b748a93ac72923c45656e77d37275a0adbcbfef8209ed8dbcb",
    "sparse": "015681d5784529e5506267e4d8c23336ba0378d05cdbf816e3e4d4127b1c98dd",
}  # of 2048 x 128, seed 0
DRAWN = sorted(kind for kind in KINDS if not KINDS[kind].needs_data)  # the others: see pca
EVERY_KIND = pytest.mark.parametrize("kind", DRAWN)


def made(kind: str, dim_in: int = 12, dim_out: int = 5, seed: int = 0) -> Projection:
    return make_projection(kind, dim_in=dim_in, dim_out=dim_out, seed=seed)


def estimator(kind: str, *arguments: Any, **options: Any) -> RandomProjection:
    made = KINDS[kind].estimator
    assert issubclass(made, RandomProjection)
    return made(*arguments, **options)


@parametrize_with_checks([entry.estimator() for entry in KINDS.values()])  # type: ignore[untyped-decorator]
def test_scikit_learn_accepts_it(estimator: Any, check: Any) -> None:
    check(estimator)


@EVERY_KIND
def test_the_bits_of_a_large_matrix_have_not_changed(kind: str) -> None:
    assert made(kind, 2048, 128).describe()["digest"] == "sha256:" + PINNED[kind]


SHOW_DIGESTS = """
import sys
from projections import KINDS, make_projection
for kind in sorted(kind for kind in KINDS if not KINDS[kind].needs_data):
    print(make_projection(kind, dim_in=2048, dim_out=128, seed=0).describe()["digest"])
"""


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param({"OPENBLAS_CORETYPE": "NEHALEM", "OPENBLAS_NUM_THREADS": "1"}, id="old-cpu"),
        pytest.param({"OPENBLAS_CORETYPE": "HASWELL", "OPENBLAS_NUM_THREADS": "2"}, id="two-cores"),
    ],
)
def test_another_cpu_and_thread_count_give_the_same_bits(machine: dict[str, str]) -> None:
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    disabled = " ".join(found) if "old" in machine.get("OPENBLAS_CORETYPE", "").lower() else ""
    environment = {**os.environ, **machine, "NPY_DISABLE_CPU_FEATURES": disabled}
    shown = subprocess.run(
        [sys.executable, "-c", SHOW_DIGESTS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == ["sha256:" + PINNED[kind] for kind in DRAWN]


@EVERY_KIND
@given(dim_in=st.integers(1, 30), data=st.data(), seed=st.integers(0, 2**65))
def test_equal_names_are_equal_maps(kind: str, dim_in: int, data: st.DataObject, seed: int) -> None:
    dim_out = data.draw(st.integers(1, dim_in))
    first, second = (made(kind, dim_in, dim_out, seed) for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.matrix.dtype == np.float32
    assert first.matrix.shape == (dim_in, dim_out)
    assert first.describe() == second.describe()


@EVERY_KIND
@pytest.mark.parametrize("other", [{"seed": 1}, {"dim_out": 63}, {"dim_in": 301}])
def test_another_seed_or_width_is_an_unrelated_map(kind: str, other: dict[str, int]) -> None:
    base = {"dim_in": 300, "dim_out": 64, "seed": 0}
    first, second = made(kind, **base), made(kind, **{**base, **other})
    assert first.describe()["digest"] != second.describe()["digest"]
    cut = tuple(map(slice, np.minimum(first.matrix.shape, second.matrix.shape)))
    both = np.stack([first.matrix[cut].ravel(), second.matrix[cut].ravel()])
    assert abs(np.corrcoef(both)[0, 1]) < 5 / np.sqrt(both.shape[1])


def test_two_kinds_of_one_seed_are_unrelated_maps() -> None:
    both = np.stack([made(kind, 300, 64).matrix.ravel() for kind in DRAWN])
    correlations = np.corrcoef(both)[np.triu_indices(len(both), 1)]
    assert abs(correlations).max() < 5 / np.sqrt(both.shape[1])


@EVERY_KIND
def test_application_is_the_product_in_float64(kind: str) -> None:
    rows = np.random.default_rng(0).standard_normal((37, 300))
    projection = made(kind, 300, 40)
    exact = rows.astype(np.float32).astype(np.float64) @ projection.matrix.astype(np.float64)
    found = projection.transform(rows.astype(np.float32))
    assert found.dtype == np.float32
    # 300 products, each rounded to half a unit, errors adding up like a random walk, five of them
    bound = 5 * np.sqrt(300) * 2.0**-24 * np.abs(rows).max() * np.abs(projection.matrix).max()
    np.testing.assert_allclose(found, exact, rtol=0, atol=bound)
    # of numbers about 1: one that cancels to a thousandth has as much rounding as the others
    whole = rows @ projection.matrix
    np.testing.assert_allclose(projection.transform(rows), whole, rtol=1e-12, atol=1e-13)


@EVERY_KIND
@pytest.mark.parametrize(
    ("given_type", "made_type"),
    [("f4", "f4"), ("f8", "f8"), ("f2", "f4"), ("i8", "f4"), (">f4", "f4")],
)
def test_types_that_come_out(kind: str, given_type: str, made_type: str) -> None:
    rows = np.arange(24).reshape(2, 12).astype(given_type)
    found = estimator(kind, 3).fit_transform(rows)
    assert found.dtype == np.dtype(made_type)
    np.testing.assert_allclose(found, rows @ made(kind, dim_out=3).matrix, rtol=1e-5)


@EVERY_KIND
def test_fitting_reads_only_the_width(kind: str) -> None:
    rows = np.random.default_rng(0).standard_normal((4, 12))
    fitted = estimator(kind, 5).fit(rows)
    np.testing.assert_array_equal(fitted.matrix, made(kind).matrix)
    assert (fitted.kind, fitted.dim_in, fitted.dim_out, fitted.seed) == (kind, 12, 5, 0)
    assert isinstance(fitted, Projection)


@EVERY_KIND
def test_the_default_width_is_what_the_data_allows(kind: str) -> None:
    assert estimator(kind).fit(np.ones((2, 7))).dim_out == 7
    assert estimator(kind).fit(np.ones((2, 99))).dim_out == 64


@EVERY_KIND
def test_it_works_in_a_pipeline_with_names(kind: str) -> None:
    import pandas as pd

    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((9, 6)), columns=list("abcdef"))
    pipeline = make_pipeline(StandardScaler(), estimator(kind, 2)).set_output(transform="pandas")
    mapped = pipeline.fit_transform(frame)
    name = KINDS[kind].estimator.__name__.lower()
    assert list(mapped.columns) == [f"{name}0", f"{name}1"]
    assert list(pipeline.get_feature_names_out()) == [f"{name}0", f"{name}1"]


@EVERY_KIND
def test_clones_and_pickles_are_the_same_map(kind: str) -> None:
    fitted = estimator(kind, 4, seed=3).fit(np.ones((2, 9)))
    again = clone(fitted).fit(np.ones((5, 9)))
    np.testing.assert_array_equal(again.matrix, fitted.matrix)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).matrix, fitted.matrix)


@EVERY_KIND
def test_the_inverse_is_the_shortest_row_that_maps_there(kind: str) -> None:
    projection = estimator(kind, 5).fit_width(12)
    mapped = np.random.default_rng(0).standard_normal((3, 5))
    rows = projection.inverse_transform(mapped)
    np.testing.assert_allclose(projection.transform(rows), mapped, atol=1e-10)
    expected = np.linalg.lstsq(projection.matrix.T.astype(np.float64), mapped.T, rcond=None)[0].T
    np.testing.assert_allclose(rows, expected, atol=1e-10)
    assert projection.inverse_transform(mapped.astype(np.float32)).dtype == np.float32


@EVERY_KIND
def test_what_it_says_of_itself_goes_to_json_and_back(kind: str) -> None:
    said = estimator(kind, np.int32(5), seed=np.int64(7)).fit_width(12).describe()
    assert json.loads(json.dumps(said)) == said
    assert {**said, "digest": ""} == {
        "kind": kind,
        "dim_in": 12,
        "dim_out": 5,
        "seed": 7,
        "algorithm": 1,
        "digest": "",
    }


@pytest.mark.parametrize("kind", sorted({*DRAWN} - {"hadamard"}))
def test_the_digest_is_that_of_the_matrix_in_memory_order(kind: str) -> None:
    import hashlib

    projection = made(kind)
    expected = hashlib.sha256(projection.matrix.astype("<f4").tobytes(order="C")).hexdigest()
    assert projection.describe()["digest"] == f"sha256:{expected}"


@EVERY_KIND
def test_the_matrix_cannot_be_changed_by_accident(kind: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        made(kind).matrix[0, 0] = 1


@EVERY_KIND
def test_more_components_than_columns_are_refused_with_both_numbers(kind: str) -> None:
    with pytest.raises(ProjectionError, match=r"n_components=9 .* n_features=8"):
        estimator(kind, 9).fit(np.ones((3, 8)))
    with pytest.raises(ProjectionError, match=r"n_components=9 .* n_features=8"):
        made(kind, dim_in=8, dim_out=9)


@EVERY_KIND
@pytest.mark.parametrize("value", [0, -1, 2.0, "2", True])
def test_a_width_that_is_no_whole_number_above_zero_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(ProjectionError, match=f"n_components must be .* at least 1, got {value!r}"):
        estimator(kind, value).fit(np.ones((3, 8)))


@EVERY_KIND
@pytest.mark.parametrize("value", [-1, 0.5, None, False])
def test_a_seed_that_is_no_whole_number_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(ProjectionError, match=f"seed must be .* at least 0, got {value!r}"):
        estimator(kind, 2, seed=value).fit(np.ones((3, 8)))


@EVERY_KIND
def test_rows_it_cannot_map_are_refused(kind: str) -> None:
    projection = made(kind)
    with pytest.raises(ValueError, match=r"11 features, but .* is expecting 12 features"):
        projection.transform(np.ones((2, 11)))
    with pytest.raises(ValueError, match="contains NaN"):
        projection.transform(np.full((2, 12), np.nan))
    with pytest.raises(ProjectionError, match=r"X has 4 columns, but this \w+ makes rows of 5"):
        estimator(kind, 5).fit_width(12).inverse_transform(np.ones((2, 4)))
    with pytest.raises(ProjectionError, match=r"dim_in must be .* at least 1, got 0"):
        made(kind, dim_in=0, dim_out=0)


@EVERY_KIND
def test_a_map_that_was_not_fitted_has_no_widths(kind: str) -> None:
    unfitted = estimator(kind, 2)
    for use in (
        lambda: unfitted.transform(np.ones((2, 3))),
        lambda: unfitted.matrix,
        lambda: unfitted.dim_in,
        lambda: unfitted.dim_out,
    ):
        with pytest.raises(NotFittedError):
            use()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("gausian", "no projection of kind 'gausian'; did you mean 'gaussian'?"),
        ("Orthogonal", "no projection of kind 'Orthogonal'; did you mean 'orthogonal'?"),
        ("xyz", r"no projection of kind 'xyz' \(known: gaussian, orthogonal"),
    ],
)
def test_an_unknown_kind_is_answered_with_the_nearest(wrong: str, message: str) -> None:
    with pytest.raises(UnknownKindError, match=message.replace("?", r"\?")):
        made(wrong)


def test_the_table_names_each_kind_as_the_kind_names_itself() -> None:
    assert {name: entry.estimator.kind for name, entry in KINDS.items()} == {n: n for n in KINDS}
    assert KINDS["gaussian"].estimator is GaussianProjection
    assert KINDS["orthogonal"].estimator is OrthogonalProjection
