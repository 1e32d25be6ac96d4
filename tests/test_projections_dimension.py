"""The participation ratio by hand, and against eigenvalues."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import ProjectionError, dimension, participation_ratio


def test_by_hand() -> None:
    cross = np.array([[2, 0], [-2, 0], [0, 1], [0, -1]], dtype=np.float32)
    assert participation_ratio(cross) == pytest.approx((4 + 1) ** 2 / (16 + 1))
    assert participation_ratio(cross + np.float32(7)) == pytest.approx(25 / 17)


def test_a_line_is_one_and_equal_axes_are_all() -> None:
    line = np.outer(np.arange(9.0), [1, 2, 3]) + np.array([5, 0, 1])
    assert participation_ratio(line) == pytest.approx(1)
    corners = np.concatenate([np.eye(6), -np.eye(6)])
    assert participation_ratio(corners) == pytest.approx(6)


@given(rows=st.integers(2, 30), dim=st.integers(1, 12), block=st.integers(1, 9))
def test_it_is_that_of_the_eigenvalues(rows: int, dim: int, block: int) -> None:
    features = np.random.default_rng(rows * 31 + dim).standard_normal((rows, dim)) + 3
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(features.T)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dimension, "BLOCK", block)
        found = participation_ratio(features)
    assert found == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 1 - 1e-9 <= found <= min(rows - 1, dim) + 1e-9


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_the_scale_does_not_matter(scale: float) -> None:
    features = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    scaled = features * np.float32(scale)
    assert participation_ratio(scaled) == pytest.approx(participation_ratio(features), rel=1e-5)


def test_half_precision_is_read_as_it_is() -> None:
    half = (np.random.default_rng(0).standard_normal((300, 5)) * 300).astype(np.float16)
    assert participation_ratio(half) == pytest.approx(participation_ratio(half.astype(np.float64)))


def test_rows_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ProjectionError, match="rows that differ: these are all equal"):
        participation_ratio(np.ones((5, 3), dtype=np.float32))
    with pytest.raises(ProjectionError, match="at least 2 rows, got 1"):
        participation_ratio(np.ones((1, 3), dtype=np.float32))
