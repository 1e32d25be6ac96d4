"""Losses against hand-computed numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from students import (
    DISTANCES,
    LabelLoss,
    LogitLoss,
    StudentError,
    SubspaceLoss,
    UnknownLossError,
    get_distance,
)
from students.losses import cosine, cross_entropy, kl, mse, normalised_mse

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


def test_kl_is_temperature_squared_times_the_divergence_of_the_teacher_from_the_student() -> None:
    teacher = torch.log(torch.tensor([[0.8, 0.2]])) * 2
    student = torch.log(torch.tensor([[0.5, 0.5]])) * 2
    divergence = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert float(kl(student, teacher, 2.0)) == pytest.approx(4 * divergence, rel=1e-5)
    # the other way round is another number, so the direction is right
    assert float(kl(teacher, student, 2.0)) != pytest.approx(4 * divergence, rel=1e-2)


def test_cross_entropy_is_minus_the_log_of_the_labels_share() -> None:
    logits = torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]]))
    expected = -(math.log(0.75) + math.log(0.9)) / 2
    assert float(cross_entropy(logits, torch.tensor([1, 0]))) == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(DISTANCES))
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


def test_the_subspace_loss_adds_its_weighed_terms() -> None:
    weight, bias = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.5, 0.0])
    targets = {"targets": AIM, "logits": AIM, "labels": torch.tensor([1, 0])}
    logits = FOUND @ weight.T + bias
    only = SubspaceLoss(distance="mse", scale=2.0, weight=weight, bias=bias)
    assert float(only(FOUND, {"targets": AIM})) == pytest.approx(4.25 / 4)
    full = SubspaceLoss(
        distance="mse",
        scale=2.0,
        weight=weight,
        bias=bias,
        target_weight=3.0,
        kl_weight=0.5,
        ce_weight=0.25,
        temperature=4.0,
    )
    expected = (
        3.0 * 4.25 / 4
        + 0.5 * float(kl(logits, AIM, 4.0))
        + 0.25 * float(cross_entropy(logits, targets["labels"]))
    )
    assert float(full(FOUND, targets)) == pytest.approx(expected)


def test_the_baselines_losses_are_what_their_names_say() -> None:
    targets = {"logits": AIM, "labels": torch.tensor([1, 0])}
    ce = float(cross_entropy(FOUND, targets["labels"]))
    assert float(LabelLoss()(FOUND, targets)) == pytest.approx(ce)
    hinton = LogitLoss(temperature=2.0, kl_weight=2.0, ce_weight=0.5)
    assert float(hinton(FOUND, targets)) == pytest.approx(2 * float(kl(FOUND, AIM, 2.0)) + ce / 2)
