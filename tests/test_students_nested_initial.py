"""First factors: the paper's, the whitened ones, and which of them errs less on what."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from students.nested.errors import CalibrationError, RankError
from students.nested.initial import (
    Factors,
    shrink,
    shrink_counts,
    svd_factors,
    whitened_factors,
)

ROUNDING = 1e-12  # of the outputs' energy: float64 eigenvectors, sums of a few hundred products

SHAPES = st.sampled_from([(5, 8), (8, 5), (6, 6), (1, 4), (4, 1)])


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def inputs_of(rows: int, dim: int, seed: int) -> Tensor:
    """Rows of a few strong directions, a mean, and an input that is always 0."""
    rows_ = drawn(rows, dim, seed=seed) @ (
        drawn(dim, dim, seed=seed + 1) * torch.logspace(0, -3, dim)
    )
    rows_ += drawn(1, dim, seed=seed + 2)
    if dim > 1:
        rows_[:, 0] = 0.0
    return rows_


def at(factors: Factors, rank: int) -> Tensor:
    return factors.up[:, :rank] @ factors.down[:rank]


def error(weight: Tensor, approximate: Tensor, inputs: Tensor) -> float:
    return float((inputs @ (weight - approximate).T).square().sum())


def moment(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs / len(inputs)


@given(shape=SHAPES, seed=st.integers(0, 999))
def test_the_papers_factors_are_those_of_numpys_svd(shape: tuple[int, int], seed: int) -> None:
    weight = drawn(*shape, seed=seed)
    left, values, right = np.linalg.svd(weight.numpy(), full_matrices=False)
    factors = svd_factors(weight, min(shape))
    signs = np.sign((factors.up.numpy() * left).sum(axis=0))
    np.testing.assert_allclose(factors.up, left * signs * np.sqrt(values), atol=1e-6)
    np.testing.assert_allclose(
        factors.down, np.sqrt(values)[:, None] * signs[:, None] * right, atol=1e-6
    )


@given(shape=SHAPES, seed=st.integers(0, 999))
def test_factors_lie_in_memory_as_they_are_read_back(shape: tuple[int, int], seed: int) -> None:
    """Products of another layout differ in their last bits."""
    weight = drawn(*shape, seed=seed)
    covariance = moment(inputs_of(20, shape[1], seed))
    for found in (
        svd_factors(weight, min(shape)),
        whitened_factors(weight, covariance, min(shape)),
    ):
        assert found.up.is_contiguous()
        assert found.down.is_contiguous()


def test_by_hand_inputs_decide_which_number_is_kept() -> None:
    weight = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    covariance = torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64))
    np.testing.assert_allclose(at(svd_factors(weight, 2), 1), [[2.0, 0.0], [0.0, 0.0]], atol=1e-12)
    kept = whitened_factors(weight, covariance, 2)  # outputs' moments: 4 and 9
    np.testing.assert_allclose(at(kept, 1), [[0.0, 0.0], [0.0, 1.0]], atol=1e-12)
    np.testing.assert_allclose(kept.up.abs(), [[0.0, np.sqrt(2.0)], [1.0, 0.0]], atol=1e-12)
    same = whitened_factors(weight, covariance.diagonal(), 2)
    np.testing.assert_array_equal(same.up, kept.up)


@given(
    shape=SHAPES,
    rows=st.integers(1, 40),
    amount=st.sampled_from([None, 0.0, 0.3, 0.99]),
    seed=st.integers(0, 999),
)
def test_on_its_own_inputs_the_whitened_start_errs_no_more_at_any_rank(
    shape: tuple[int, int], rows: int, amount: float | None, seed: int
) -> None:
    weight, inputs = drawn(*shape, seed=seed), inputs_of(rows, shape[1], seed)
    full, covariance = min(shape), moment(inputs)
    if amount is None:
        covariance, _ = shrink(covariance, rows)
    else:
        mean = covariance.trace() / shape[1]
        covariance = (1 - amount) * covariance + amount * mean * torch.eye(shape[1])
    plain, whitened = svd_factors(weight, full), whitened_factors(weight, covariance, full)
    slack = ROUNDING * error(weight, torch.zeros(shape), inputs)
    for rank in range(1, full + 1):
        found, worst = (error(weight, at(each, rank), inputs) for each in (whitened, plain))
        assert found <= worst + slack


@given(shape=SHAPES, rows=st.integers(1, 40), seed=st.integers(0, 999))
def test_not_shrunk_it_errs_as_little_as_any_matrix_of_its_rank(
    shape: tuple[int, int], rows: int, seed: int
) -> None:
    weight, inputs = drawn(*shape, seed=seed), inputs_of(rows, shape[1], seed)
    found = whitened_factors(weight, moment(inputs), min(shape))
    values = np.linalg.svd((inputs @ weight.T).numpy(), compute_uv=False) ** 2
    for rank in range(1, min(shape) + 1):
        assert error(weight, at(found, rank), inputs) == pytest.approx(
            values[rank:].sum(), abs=1e-10 * values.sum()
        )


def test_it_is_the_svd_of_w_times_the_root_of_c() -> None:
    weight, inputs = drawn(5, 8, seed=1), drawn(40, 8, seed=2)
    covariance = moment(inputs).numpy()
    values, axes = np.linalg.eigh(covariance)
    root, inverse = ((axes * values**power) @ axes.T for power in (0.5, -0.5))
    left, singular, right = np.linalg.svd(weight.numpy() @ root, full_matrices=False)
    found = whitened_factors(weight, moment(inputs), 5)
    for rank in range(1, 6):
        expected = (left * singular)[:, :rank] @ right[:rank] @ inverse
        np.testing.assert_allclose(at(found, rank), expected, atol=1e-10)


@pytest.mark.parametrize("shape", [(7, 12), (12, 7)])
def test_full_rank_is_the_matrix_itself_even_where_inputs_never_reach(
    shape: tuple[int, int],
) -> None:
    weight = drawn(*shape, seed=3).float()
    inputs = inputs_of(3, shape[1], 4)
    for factors in (svd_factors(weight, 7), whitened_factors(weight, moment(inputs), 7)):
        assert factors.up.dtype == torch.float32
        np.testing.assert_allclose(at(factors, 7), weight, atol=1e-5)


@given(shape=SHAPES, scale=st.sampled_from([1e-3, 1.0, 1e3]), seed=st.integers(0, 99))
def test_the_units_of_the_inputs_do_not_change_the_factors_whose_norms_are_equal(
    shape: tuple[int, int], scale: float, seed: int
) -> None:
    weight, covariance = drawn(*shape, seed=seed), moment(inputs_of(50, shape[1], seed))
    one, other = (whitened_factors(weight, c, min(shape)) for c in (covariance, scale * covariance))
    np.testing.assert_allclose(one.up.norm(dim=0), one.down.norm(dim=1), rtol=1e-9)
    np.testing.assert_allclose(other.up.norm(dim=0), one.up.norm(dim=0), rtol=1e-6)


def test_a_lower_rank_is_the_first_part_of_a_higher() -> None:
    weight, covariance = drawn(6, 9, seed=5), moment(drawn(30, 9, seed=6))
    for few, all_ in (
        (svd_factors(weight, 2), svd_factors(weight, 6)),
        (whitened_factors(weight, covariance, 2), whitened_factors(weight, covariance, 6)),
    ):
        np.testing.assert_array_equal(few.up, all_.up[:, :2])
        np.testing.assert_allclose(few.down, all_.down[:2], rtol=1e-12)


def test_a_matrix_of_lower_rank_gives_finite_factors() -> None:
    weight = torch.zeros(4, 3)
    weight[0, 0] = 1.0
    for factors in (svd_factors(weight, 3), whitened_factors(weight, torch.eye(3).double(), 3)):
        np.testing.assert_allclose(at(factors, 1), weight, atol=1e-6)
        np.testing.assert_allclose(at(factors, 3), weight, atol=1e-6)
        assert factors.up.isfinite().all()


@pytest.mark.parametrize("rank", [0, 4, -1])
def test_a_rank_that_a_matrix_does_not_have_is_refused(rank: int) -> None:
    message = rf"a matrix of 3 x 5 has ranks 1 to 3, got {rank}"
    with pytest.raises(RankError, match=message):
        svd_factors(torch.ones(3, 5), rank)
    with pytest.raises(RankError, match=message):
        whitened_factors(torch.ones(3, 5), torch.ones(5).double(), rank)


def test_nan_is_refused() -> None:
    with pytest.raises(CalibrationError, match="NaN or infinity"):
        whitened_factors(torch.ones(3, 2), torch.tensor([[1.0, np.nan], [np.nan, 1.0]]).double(), 1)


# --- shrinkage ------------------------------------------------------------------------------------


def test_shrinkage_by_hand() -> None:
    """dim 2, n = 10: tr C = 4, tr C² = 10; a = (0 * 10 + 16) / (10 * (10 - 8)) = 0.8."""
    shrunk, amount = shrink(torch.tensor([[3.0, 0.0], [0.0, 1.0]]).double(), rows=10)
    assert amount == pytest.approx(0.8)
    np.testing.assert_allclose(shrunk, [[0.2 * 3 + 0.8 * 2, 0.0], [0.0, 0.2 + 1.6]])


@given(dim=st.integers(2, 9), rows=st.integers(1, 500), seed=st.integers(0, 99))
def test_shrinkage_keeps_the_trace_makes_c_definite_and_fades_with_rows(
    dim: int, rows: int, seed: int
) -> None:
    covariance = moment(drawn(rows, dim, seed=seed))
    shrunk, amount = shrink(covariance, rows)
    assert 0 < amount <= 1
    assert float(shrunk.trace()) == pytest.approx(float(covariance.trace()))
    assert float(torch.linalg.eigvalsh(shrunk)[0]) > 0
    assert shrink(covariance, 2 * rows)[1] <= amount


def test_inputs_that_are_always_0_leave_the_papers_start() -> None:
    covariance, amount = shrink(torch.zeros(3, 3).double(), rows=9)
    assert amount == 1.0
    np.testing.assert_array_equal(covariance, np.eye(3))


def test_counts_by_hand() -> None:
    diagonal, amount = shrink_counts(torch.tensor([3.0, 0.0, 2.0]).double())
    np.testing.assert_allclose(diagonal, [4 / 8, 1 / 8, 3 / 8])
    assert amount == pytest.approx(3 / 8)
    plain = torch.tensor([3.0, 0.0, 2.0]).double() / 5
    np.testing.assert_allclose(diagonal, (1 - amount) * plain + amount / 3)
