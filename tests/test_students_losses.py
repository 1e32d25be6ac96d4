"""Losses against hand-computed numbers."""

import math
from typing import Any

import pytest
import torch

from students import (
    LabelLoss,
    LogitLoss,
    Prefix,
    StudentError,
    SubspaceLoss,
    UnknownLossError,
    check_prefixes,
)
from students.distances import cosine, fisher, logsum
from students.losses import cross_entropy, kl

FOUND = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
AIM = torch.tensor([[3.0, 4.0], [0.0, 2.0]])


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


def test_rows_without_a_label_do_not_count_in_the_cross_entropy() -> None:
    labels = torch.tensor([1, -1])
    alone = float(cross_entropy(FOUND[:1], labels[:1]))
    assert float(cross_entropy(FOUND, labels)) == pytest.approx(alone)
    logits = FOUND.clone().requires_grad_()
    none = cross_entropy(logits, torch.tensor([-1, -1]))
    none.backward()  # type: ignore[no-untyped-call]
    assert float(none.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


WEIGHT, BIAS = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.5, 0.0])
TARGETS = {"targets": AIM, "logits": AIM, "labels": torch.tensor([1, 0])}


def loss_of(**changes: Any) -> SubspaceLoss:
    settings: dict[str, Any] = {
        "distance": "mse", "scale": 2.0, "weight": WEIGHT, "bias": BIAS, "ce_weight": 1.0,
    }  # fmt: skip
    return SubspaceLoss(**(settings | changes))


def test_logits_of_the_network_go_before_those_of_the_carried_head() -> None:
    own = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    found = loss_of()({"rows": FOUND, "logits": own}, TARGETS)
    expected = 4.25 / 4 + float(cross_entropy(own, TARGETS["labels"]))
    assert float(found) == pytest.approx(expected)
    # rows alone are as good as a tensor
    assert float(loss_of()({"rows": FOUND}, TARGETS)) == float(loss_of()(FOUND, TARGETS))
    assert float(loss_of(weight=None)({"rows": FOUND, "logits": own}, TARGETS)) == float(found)
    with pytest.raises(StudentError, match="has no head, and the network gives no logits"):
        loss_of(weight=None)(FOUND, TARGETS)


def test_the_fisher_loss_is_measured_in_its_metric_and_divided_by_the_squared_scale() -> None:
    metric = torch.tensor([[1.5, 0.5], [0.5, 0.5]])
    found = loss_of(distance="fisher", metric=metric, ce_weight=0.0)(FOUND, TARGETS)
    # (-2, -2): 6 + 4 + 2 = 12; (0, -3): 4.5; over k = 2, over 2 rows, over scale² = 4
    assert float(found) == pytest.approx((12 + 4.5) / 2 / 2 / 4)
    with pytest.raises(StudentError, match="the loss 'fisher' needs a metric"):
        loss_of(distance="fisher")
    with pytest.raises(StudentError, match="the loss 'cosine' has no use for a metric"):
        loss_of(distance="cosine", metric=metric)
    with pytest.raises(UnknownLossError, match="no loss named 'cosin'"):
        loss_of(distance="cosin")


@pytest.mark.parametrize(
    ("distance", "of"), [("cosine", cosine), ("logsum", logsum)], ids=["cosine", "logsum"]
)
def test_distances_that_are_no_squares_are_not_divided_by_the_scale(distance: str, of: Any) -> None:
    found = loss_of(distance=distance, ce_weight=0.0)(FOUND, TARGETS)
    assert float(found) == pytest.approx(float(of(FOUND, AIM)))


def test_prefixes_ask_the_same_of_the_first_numbers_through_their_own_heads() -> None:
    rows = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 1.0]])
    aims = {**TARGETS, "targets": torch.tensor([[3.0, 4.0, 0.5], [0.0, 2.0, 3.0]])}
    narrow = Prefix(weight=torch.tensor([[2.0], [-1.0]]), bias=torch.tensor([0.0, 1.0]))
    middle = Prefix(weight=WEIGHT, bias=BIAS)
    whole = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    loss = loss_of(weight=whole, prefixes=(middle, narrow))
    ce = [
        float(cross_entropy(rows @ whole.T + BIAS, aims["labels"])),
        float(cross_entropy(rows[:, :2] @ WEIGHT.T + BIAS, aims["labels"])),
        float(cross_entropy(rows[:, :1] @ narrow.weight.T + narrow.bias, aims["labels"])),
    ]
    squared = [(8 + 13) / 2 / 3, (8 + 9) / 2 / 2, (4 + 0) / 2]
    expected = sum(c + s / 4 for c, s in zip(ce, squared, strict=True)) / 3
    assert float(loss(rows, aims)) == pytest.approx(expected)


def test_logits_of_the_network_are_those_of_all_numbers_and_not_of_a_prefix() -> None:
    own = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    narrow = Prefix(weight=torch.tensor([[2.0], [-1.0]]), bias=torch.tensor([0.0, 1.0]))
    found = loss_of(target_weight=0.0, prefixes=(narrow,))({"rows": FOUND, "logits": own}, TARGETS)
    through_narrow = FOUND[:, :1] @ narrow.weight.T + narrow.bias
    both = [float(cross_entropy(each, TARGETS["labels"])) for each in (own, through_narrow)]
    assert float(found) == pytest.approx(sum(both) / 2)


def test_a_prefix_is_measured_in_the_leading_block_of_the_metric() -> None:
    metric = torch.tensor([[1.6, 0.4], [0.4, 0.4]])
    narrow = Prefix(weight=torch.ones(2, 1), bias=torch.zeros(2))
    loss = loss_of(distance="fisher", metric=metric, ce_weight=0.0, prefixes=(narrow,))
    # a block of one number is scaled to 1: (4 + 0) / 2 over scale²
    expected = (float(fisher(FOUND, AIM, metric)) / 4 + 2.0 / 4) / 2
    assert float(loss(FOUND, TARGETS)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([8], "a prefix of 8 numbers is no part of a student's 8; name widths from 1 to 7"),
        ([4, 16], "a prefix of 16 numbers"),
        ([0], "a prefix of 0 numbers"),
        ([4, 2, 4], "the prefix of 4 numbers is named twice"),
    ],
)
def test_a_prefix_that_is_none_is_refused(widths: list[int], message: str) -> None:
    with pytest.raises(StudentError, match=message):
        check_prefixes(widths, 8)
    check_prefixes([4, 2, 1, 7], 8)


@pytest.mark.parametrize("width", [1, 3])
def test_a_student_of_another_width_than_its_targets_is_refused(width: int) -> None:
    with pytest.raises(StudentError, match=f"gives rows of width {width}, and its targets have 2"):
        loss_of(ce_weight=0.0)(torch.zeros(2, width), TARGETS)
