"""Distances of rows from their targets: hand-computed numbers, invariances, plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from students import DISTANCES, StudentError, UnknownLossError, get_distance
from students.distances import cosine, fisher, logsum, mse, normalised_mse, relational

FOUND = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
AIM = torch.tensor([[3.0, 4.0], [0.0, 2.0]])


def test_mse_is_the_squared_distance_over_k_averaged_over_rows() -> None:
    # (4 + 4) / 2 = 4 and (0 + 9) / 2 = 4.5
    assert float(mse(FOUND, AIM)) == pytest.approx((4.0 + 4.5) / 2)


def test_normalised_mse_divides_each_row_by_the_length_of_its_target() -> None:
    # 8 / 25 and 9 / 4
    assert float(normalised_mse(FOUND, AIM)) == pytest.approx((8 / 25 + 9 / 4) / 2)


def test_normalised_mse_does_not_let_a_row_of_zeros_drown_the_others() -> None:
    aim = torch.tensor([[0.0, 0.0], [0.0, 10.0]])
    found = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    # the mean squared length is 50, and a hundredth of it is the floor: 1 / 0.5, and 0
    assert float(normalised_mse(found, aim)) == pytest.approx(1.0)
    assert float(normalised_mse(torch.zeros(2, 2), torch.zeros(2, 2))) == 0.0


def test_cosine_is_one_minus_the_cosine_and_blind_to_length() -> None:
    # (3 + 8) / (sqrt(5) * 5), and opposite directions
    expected = (1 - 11 / (math.sqrt(5) * 5) + 2) / 2
    assert float(cosine(FOUND, AIM)) == pytest.approx(expected)
    assert float(cosine(7 * FOUND, AIM)) == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(DISTANCES.keys() - {"logsum"}))
@given(seed=st.integers(0, 999))
def test_every_distance_is_zero_at_the_target_and_above_it_elsewhere(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    aim, noise = (torch.from_numpy(rng.standard_normal((5, 3)).astype("f4")) for _ in range(2))
    distance = get_distance(name)
    assert abs(float(distance(aim, aim))) < 1e-6
    assert float(distance(aim + noise, aim)) > 1e-4


def test_an_unknown_loss_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UnknownLossError, match=r"no loss named 'cosin'; did you mean 'cosine'\?"):
        get_distance("cosin")
    assert issubclass(UnknownLossError, StudentError)


def test_logsum_is_the_logarithm_of_the_fourth_powers_averaged_over_rows() -> None:
    # 2⁴ + 2⁴ = 32 and 0 + 3⁴ = 81
    assert float(logsum(FOUND, AIM)) == pytest.approx(math.log((32 + 81) / 2), rel=1e-6)


@pytest.mark.parametrize("size", [1e-15, 1e-3, 1e8, 1e15])
def test_logsum_of_larger_rows_is_larger_by_a_constant_and_loses_none(size: float) -> None:
    found = float(logsum(size * FOUND, size * AIM))
    assert found == pytest.approx(math.log((32 + 81) / 2) + 4 * math.log(size), rel=1e-5)


def test_logsum_falls_towards_the_target_and_is_finite_there() -> None:
    nearer = [float(logsum(AIM + size, AIM)) for size in (1.0, 0.1, 0.01, 0.0)]
    assert nearer == sorted(nearer, reverse=True)
    rows = AIM.clone().requires_grad_()
    at_target = logsum(rows, AIM)
    at_target.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(float(at_target.detach()))
    assert rows.grad is not None
    assert not rows.grad.any()


def huber(difference: float) -> float:
    size = abs(difference)
    return size**2 / 2 if size <= 1 else size - 0.5


def test_relational_compares_distances_and_angles_of_a_triangle() -> None:
    # a right angle at the first row with sides 3, 4, 5, against one of three equal sides
    target = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    found = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, math.sqrt(3.0)]])
    distances = 2 * (huber(1 - 3 / 4) + huber(1 - 4 / 4) + huber(1 - 5 / 4)) / 9
    # at each row two orders of the other two; where one is the row itself, or both are the same
    # one, there is no difference
    angles = 2 * (huber(0.5 - 0.0) + huber(0.5 - 3 / 5) + huber(0.5 - 4 / 5)) / 27
    assert float(relational(found, target)) == pytest.approx(distances + 2 * angles, rel=1e-5)


def relational_by_loops(found: np.ndarray, target: np.ndarray) -> float:
    """As the paper has it, over ordered pairs and triples."""
    n = len(found)

    def distances(rows: np.ndarray) -> np.ndarray:
        all_pairs = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        return np.asarray(all_pairs / (all_pairs.sum() / (n * (n - 1))))

    def angle(rows: np.ndarray, at: int, one: int, other: int) -> float:
        if at in (one, other):
            return 0.0
        first, second = rows[one] - rows[at], rows[other] - rows[at]
        return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))

    near = sum(huber(d) for d in (distances(found) - distances(target)).flat)
    turned = sum(
        huber(angle(found, *triple) - angle(target, *triple)) for triple in np.ndindex(n, n, n)
    )
    return near / n**2 + 2 * turned / n**3


@given(seed=st.integers(0, 999))
def test_relational_agrees_with_loops_over_pairs_and_triples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, target = rng.standard_normal((6, 4)), 3 * rng.standard_normal((6, 4))
    fast = relational(torch.from_numpy(found).float(), torch.from_numpy(target).float())
    assert float(fast) == pytest.approx(relational_by_loops(found, target), rel=1e-4)


def test_relational_is_blind_to_place_size_and_turn() -> None:
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.standard_normal((7, 3)).astype("f4"))
    turn = torch.from_numpy(np.linalg.qr(rng.standard_normal((3, 3)))[0].astype("f4"))
    assert float(relational(5.0 * target @ turn + 2.0, target)) < 1e-9
    assert float(relational(target * torch.tensor([3.0, 1.0, 1.0]), target)) > 1e-2


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_relational_of_equal_rows_has_a_finite_gradient(rows: int) -> None:
    found = torch.ones(rows, 3, requires_grad=True)
    target = torch.arange(rows * 3, dtype=torch.float32).reshape(rows, 3)
    relational(found, target).backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    assert bool(found.grad.isfinite().all())
    pair = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 2.0]], requires_grad=True)
    relational(pair, torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]])).backward()  # type: ignore[no-untyped-call]
    assert pair.grad is not None
    assert float(pair.grad.abs().max()) < 1e3


@given(seed=st.integers(0, 999))
def test_fisher_is_the_quadratic_form_of_its_metric_and_mse_of_the_identity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, target, root = (rng.standard_normal(shape) for shape in ((5, 3), (5, 3), (3, 3)))
    metric = root @ root.T
    plain = np.mean([(g - z) @ metric @ (g - z) / 3 for g, z in zip(found, target, strict=True)])
    rows, aims, form = (torch.from_numpy(a).float() for a in (found, target, metric))
    assert float(fisher(rows, aims, form)) == pytest.approx(plain, rel=1e-4)
    assert float(fisher(rows, aims, torch.eye(3))) == pytest.approx(float(mse(rows, aims)))
