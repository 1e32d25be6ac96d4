"""Targets in other coordinates: what they become, and that heads and students follow exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from students import COORDINATES, Coordinates, Encoder, StudentError, standardise, whiten
from students.whitening import mean_and_covariance

MIX = np.array([[3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, -1.0, 0.2, 0.0], [1, 1, 1, 2]])


def rows_of(seed: int, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 4)) @ MIX + [10.0, -5.0, 0.0, 1.0]
    return np.asarray(rows, dtype=np.float32)


def blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[:0], rows[:31], rows[31:150], rows[150:]]


@given(seed=st.integers(0, 999))
def test_mean_and_covariance_are_numpys_whatever_the_blocks(seed: int) -> None:
    rows = rows_of(seed) + np.float32(1e6)
    mean, covariance = mean_and_covariance(blocks(rows))
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(covariance, np.cov(wide.T, bias=True), rtol=1e-6, atol=1e-7)
    with pytest.raises(StudentError, match="targets without rows have no mean"):
        mean_and_covariance([rows[:0]])


def test_standardised_numbers_have_mean_0_and_variance_1_each() -> None:
    rows = rows_of(0)
    found = standardise(blocks(rows)).apply(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (rows - rows.mean(axis=0)) / rows.std(axis=0), atol=1e-4)


def test_whitened_numbers_have_the_identity_for_covariance() -> None:
    rows = rows_of(1)
    found = whiten(blocks(rows)).apply(rows).astype(np.float64)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(4), atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(COORDINATES))
@given(seed=st.integers(0, 99))
def test_the_way_back_gives_the_rows_and_the_folded_head_the_same_logits(
    kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_of(seed)
    weight, bias = rng.standard_normal((3, 4)).astype("f4"), rng.standard_normal(3).astype("f4")
    coordinates = COORDINATES[kind](blocks(rows))
    there = coordinates.apply(rows)
    np.testing.assert_allclose(coordinates.undo(there), rows, rtol=1e-5, atol=1e-5)
    reads_t, moved = coordinates.fold_head(weight, bias)
    logits = rows @ weight.T + bias
    np.testing.assert_allclose(
        there @ reads_t.T + moved, logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max()
    )


@pytest.mark.parametrize("kind", sorted(COORDINATES))
def test_a_prefix_of_the_targets_is_a_prefix_of_their_coordinates(kind: str) -> None:
    rows = rows_of(2)
    coordinates = COORDINATES[kind](blocks(rows))
    narrow = coordinates.prefix(2)
    np.testing.assert_allclose(narrow.apply(rows[:, :2]), coordinates.apply(rows)[:, :2], atol=1e-5)
    np.testing.assert_allclose(narrow.undo(coordinates.apply(rows)[:, :2]), rows[:, :2], atol=1e-4)


@pytest.mark.parametrize("kind", sorted(COORDINATES))
def test_a_number_that_does_not_vary_stays_finite(kind: str) -> None:
    rows = rows_of(3)
    rows[:, 1] = 7.0
    coordinates = COORDINATES[kind](blocks(rows))
    there = coordinates.apply(rows)
    np.testing.assert_allclose(there[:, 1], 0.0, atol=1e-3)
    np.testing.assert_allclose(coordinates.undo(there), rows, atol=1e-4)
    still = COORDINATES[kind]([np.full((5, 4), 2.0, np.float32)])
    np.testing.assert_allclose(still.apply(np.full((2, 4), 3.0, np.float32)), 1.0)


def test_a_direction_of_little_variance_is_scaled_no_further_than_the_floor() -> None:
    rows = rows_of(4)
    rows[:, 3] = rows[:, 2]  # singular
    found = whiten(blocks(rows))
    assert np.linalg.cond(found.factor) < 110
    variances = np.linalg.eigvalsh(np.cov(found.apply(rows).astype("f8").T, bias=True))
    np.testing.assert_allclose(variances, [0.0, 1.0, 1.0, 1.0], atol=1e-3)


class Body(nn.Module):
    """Five numbers of each input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
        rows: torch.Tensor = self.layer(prepared["pixel_values"])
        return rows


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Body(), nn.Linear(5, 4), dim_out=4)


@pytest.mark.parametrize("kind", sorted(COORDINATES))
def test_a_student_of_t_answers_in_z_once_the_way_back_is_in_its_neck(kind: str) -> None:
    coordinates = COORDINATES[kind](blocks(rows_of(5)))
    network = encoder()
    network.set_scale(1.7)
    inputs = {"pixel_values": torch.randn(50, 6)}
    with torch.no_grad():
        there = network(inputs).numpy()
        coordinates.fold_back(network)
        found = network(inputs).numpy()
    assert float(network.scale) == 1.0
    np.testing.assert_allclose(found, coordinates.undo(there), rtol=1e-5, atol=1e-5)
    assert np.abs(found - there).max() > 0.1


@pytest.mark.parametrize("neck", [nn.Identity(), nn.Linear(5, 3)])
def test_a_student_without_a_neck_to_fold_into_is_refused(neck: nn.Module) -> None:
    coordinates: Coordinates = whiten([rows_of(6)])
    with pytest.raises(StudentError, match=r"no linear neck of the targets' width.*raw targets"):
        coordinates.fold_back(Encoder(nn.Identity(), neck, dim_out=4))
