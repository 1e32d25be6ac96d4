"""The Gaussian map: the entries it should have, and the theorem it stands for."""

import numpy as np
import pytest

from projections import GaussianProjection, jl_dim, make_projection
from projections.gaussian import gaussian_matrix
from projections.normal import fill_normals, stream


def test_matrix_of_seed_zero_has_not_changed() -> None:
    expected = [
        [0.9253634810447693, 0.7779057621955872],
        [0.7000111937522888, 0.1833164393901825],
        [1.206895351409912, -0.4262552261352539],
    ]
    np.testing.assert_array_equal(gaussian_matrix(3, 2, 0), np.array(expected, dtype=np.float32))


def test_entries_are_the_stream_row_by_row_over_the_root_of_the_width() -> None:
    normals = np.empty(15)
    fill_normals(normals, stream("gaussian 1", 3, 5, 9))
    expected = (normals.reshape(3, 5) / np.sqrt(5)).astype(np.float32)
    np.testing.assert_array_max_ulp(gaussian_matrix(3, 5, 9), expected, maxulp=1)


def test_variance_is_one_over_the_width_that_comes_out() -> None:
    matrix = gaussian_matrix(600, 400, 3).astype(np.float64)
    tolerance = 5 * np.sqrt(2 / matrix.size)  # of a variance estimate, relative
    np.testing.assert_allclose(400 * (matrix**2).mean(), 1.0, atol=tolerance)


def test_the_lemma_holds_for_every_pair_of_two_hundred_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, 700)) * np.geomspace(1, 0.01, 700)
    mapped = make_projection("gaussian", dim_in=700, dim_out=jl_dim(200, 0.5), seed=0)
    before, after = (_squared_distances(rows) for rows in (points, mapped.transform(points)))
    ratio = after / before
    assert ratio.min() > 0.5
    assert ratio.max() < 1.5


def test_ten_dimensions_are_too_few_for_that() -> None:
    points = np.random.default_rng(0).standard_normal((200, 700))
    mapped = GaussianProjection(10).fit_transform(points)
    ratio = _squared_distances(mapped) / _squared_distances(points)
    assert ratio.min() < 0.5
    assert ratio.max() > 1.5


def _squared_distances(rows: np.ndarray) -> np.ndarray:
    gram = rows @ rows.T
    lengths = np.diag(gram)
    pairs = np.triu_indices(len(rows), k=1)
    distances: np.ndarray = (lengths[:, None] + lengths - 2 * gram)[pairs]
    return distances


@pytest.mark.parametrize("dims", [(1, 1), (1, 2), (5, 1)])
def test_the_smallest_maps_exist(dims: tuple[int, int]) -> None:
    assert gaussian_matrix(*dims, 0).shape == dims
