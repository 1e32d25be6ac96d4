"""Rival losses and their parts: hand-computed answers, references in plain loops, properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from students import StudentError
from students.losses import kl
from students.rivals import (
    DecoupledLoss,
    LogitSquareLoss,
    Matching,
    MatchingLoss,
    OrthogonalProjector,
    StandardisedLoss,
    decoupled_kl,
    linear_projector,
    logit_mse,
    random_projector,
    simkd_projector,
)


def softmax(row: np.ndarray) -> np.ndarray:
    powers = np.exp(row - row.max())
    found: np.ndarray = powers / powers.sum()
    return found


def divergence(aim: np.ndarray, found: np.ndarray) -> float:
    return float(sum(a * math.log(a / f) for a, f in zip(aim, found, strict=True) if a > 0))


# --- logits --------------------------------------------------------------------------------------


def test_logit_squares_by_hand() -> None:
    # centred: (-1, 1) and (-2, 2): squares of 1, 1
    found = logit_mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[10.0, 14.0]]))
    assert float(found) == pytest.approx(1.0)
    loss = LogitSquareLoss(scale=2.0, target_weight=3.0)
    targets = {"logits": torch.tensor([[10.0, 14.0]])}
    assert float(loss(torch.tensor([[1.0, 3.0]]), targets)) == pytest.approx(0.75)


def plain_decoupled(
    logits: np.ndarray, teacher: np.ndarray, labels: np.ndarray, temperature: float
) -> tuple[float, float]:
    """Both parts by definition, row by row."""
    target, others = [], []
    for z, t, label in zip(logits / temperature, teacher / temperature, labels, strict=True):
        p, q = softmax(z), softmax(t)
        pair = np.array([q[label], 1 - q[label]]), np.array([p[label], 1 - p[label]])
        target.append(divergence(*pair))
        rest = [c for c in range(len(z)) if c != label]
        others.append(divergence(q[rest] / (1 - q[label]), p[rest] / (1 - p[label])))
    return float(np.mean(target)), float(np.mean(others))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_decoupled_kl_agrees_with_its_definition(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(0, 3, (2, 7, 5))
    labels = rng.integers(0, 5, 7)
    target, others = plain_decoupled(logits, teacher, labels, temperature)
    found = decoupled_kl(
        torch.from_numpy(logits), torch.from_numpy(teacher), torch.from_numpy(labels),
        alpha=0.5, beta=3.0, temperature=temperature,
    )  # fmt: skip
    assert float(found) == pytest.approx(temperature**2 * (0.5 * target + 3 * others), rel=1e-9)


@given(st.integers(0, 500))
def test_the_two_parts_make_the_whole_kl(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, teacher = (torch.from_numpy(rng.normal(0, 2, (1, 4))) for _ in range(2))
    label = torch.tensor([seed % 4])
    rest = 1 - float(torch.softmax(teacher / 2, dim=1)[0, label])
    parts = decoupled_kl(logits, teacher, label, alpha=1.0, beta=rest, temperature=2.0)
    assert float(parts) == pytest.approx(float(kl(logits, teacher, 2.0)), abs=1e-9)


def test_a_certain_teacher_leaves_the_decoupled_kl_finite() -> None:
    teacher = torch.tensor([[80.0, 0.0, 1.0]])
    logits = torch.tensor([[-90.0, 90.0, 0.0]], requires_grad=True)
    found = decoupled_kl(logits, teacher, torch.tensor([0]), alpha=1.0, beta=8.0, temperature=1.0)
    found.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(found)
    assert torch.isfinite(logits.grad).all()


def test_a_row_without_a_label_takes_the_teacher_s_class_and_no_cross_entropy() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 3, 4, generator=rng)
    labels = teacher.argmax(dim=1)
    unlabelled = torch.full((3,), -1)
    loss = DecoupledLoss(beta=2.0, temperature=2.0, ce_weight=5.0)
    found = loss(logits, {"logits": teacher, "labels": unlabelled})
    same = DecoupledLoss(beta=2.0, temperature=2.0, ce_weight=0.0)
    assert float(found) == float(same(logits, {"logits": teacher, "labels": labels}))
    both = loss(logits, {"logits": teacher, "labels": labels})
    entropy = 5 * float(functional.cross_entropy(logits, labels))
    assert float(both) == pytest.approx(float(found) + entropy, rel=1e-6)


# --- features ------------------------------------------------------------------------------------


def outputs() -> dict[str, torch.Tensor]:
    return {"rows": torch.tensor([[1.0, 2.0], [3.0, 5.0]]), "logits": torch.zeros(2, 4)}


def test_matched_features_by_hand() -> None:
    targets = {
        "targets": torch.tensor([[1.0, 4.0], [0.0, 5.0]]), "labels": torch.tensor([1, -1]),
    }  # fmt: skip
    # rows less half the targets: 0.5, 0, 3, 2.5; one labelled row of chance 1/4
    loss = MatchingLoss(scale=2.0, target_weight=2.0, ce_weight=0.5)
    assert float(loss(outputs(), targets)) == pytest.approx(2 * 15.5 / 4 + 0.5 * math.log(4))
    alone = MatchingLoss(scale=1.0, ce_weight=0.0)
    assert float(alone({"rows": outputs()["rows"]}, targets)) == pytest.approx(13 / 4)


def test_vkd_standardises_the_teacher_s_row_alone() -> None:
    targets = {"targets": torch.tensor([[10.0, 30.0], [-2.0, 2.0]]), "labels": torch.tensor([0, 0])}
    # aims (-1, 1) both; |d| = 2, 1, 4, 4: smooth L1 is |d| - 1/2 from 1 on
    loss = StandardisedLoss(target_weight=1.0, ce_weight=0.0)
    assert float(loss(outputs(), targets)) == pytest.approx((1.5 + 0.5 + 3.5 + 3.5) / 4, rel=1e-5)
    near = {"rows": torch.tensor([[-0.5, 1.0], [-1.0, 1.0]])}  # d = 1/2 once: a square there
    assert float(loss(near, targets)) == pytest.approx(0.5 * 0.25 / 4, rel=1e-3)


@pytest.mark.parametrize("loss", [MatchingLoss(scale=1.0), StandardisedLoss()])
def test_what_does_not_fit_is_refused(loss: MatchingLoss | StandardisedLoss) -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(StudentError, match=r"rows of width 2, and its targets have 3"):
        loss(outputs(), {"targets": torch.zeros(2, 3), "labels": labels})
    with pytest.raises(StudentError, match="gives no logits"):
        loss({"rows": torch.zeros(2, 3)}, {"targets": torch.zeros(2, 3), "labels": labels})


class Doubled(nn.Module):
    def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
        return 2 * prepared["x"]


def test_a_matching_network_gives_both_of_the_same_features() -> None:
    network = Matching(Doubled(), nn.Linear(3, 4), nn.Linear(3, 2))
    given = torch.ones(5, 3)
    found = network({"x": given})
    torch.testing.assert_close(found["rows"], network.projector(2 * given))
    torch.testing.assert_close(found["logits"], network.head(2 * given))


# --- projectors ----------------------------------------------------------------------------------

SHAPES = [(3, 7), (7, 3), (4, 4)]


def moved(dim_in: int, dim_out: int) -> OrthogonalProjector:
    projector = OrthogonalProjector(dim_in, dim_out, seed=1)
    with torch.no_grad():
        rng = torch.Generator().manual_seed(2)
        projector.moved.copy_(torch.randn(projector.moved.shape, generator=rng))
    return projector


@pytest.mark.parametrize(("dim_in", "dim_out"), SHAPES)
def test_an_orthogonal_projector_stays_one(dim_in: int, dim_out: int) -> None:
    projector = moved(dim_in, dim_out)
    matrix = projector(torch.eye(dim_in)).detach()
    assert matrix.shape == (dim_in, dim_out)
    gram = matrix @ matrix.T if dim_out >= dim_in else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(min(dim_in, dim_out)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dim_in", "dim_out"), SHAPES)
def test_its_matrix_is_the_cayley_transform(dim_in: int, dim_out: int) -> None:
    projector = moved(dim_in, dim_out)
    x, q = projector.moved.detach().double(), projector.start.double()
    skew = x @ q.T - q @ x.T
    whole = torch.eye(len(skew), dtype=torch.float64)
    dense = torch.linalg.inv(whole - skew / 2) @ (whole + skew / 2) @ q
    torch.testing.assert_close(projector.matrix().detach().double(), dense, atol=1e-5, rtol=0)


def test_it_begins_where_its_seed_says_and_learns() -> None:
    projector = OrthogonalProjector(3, 5, seed=4)
    torch.testing.assert_close(projector.matrix(), projector.start)
    again, other = (OrthogonalProjector(3, 5, seed=seed) for seed in (4, 5))
    assert torch.equal(projector.start, again.start)
    assert not torch.equal(projector.start, other.start)
    # features that are some rotation of the targets: it finds the rotation
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(64, 3, generator=rng)
    aims = features @ other.start.T
    optimizer = torch.optim.Adam(projector.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (projector(features) - aims).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3


def test_it_works_in_half_precision_too() -> None:
    projector = moved(3, 7)
    with torch.autocast("cpu", torch.bfloat16):
        rows = projector(torch.eye(3))
    torch.testing.assert_close(rows.float(), projector(torch.eye(3)), atol=0.02, rtol=0)


@pytest.mark.parametrize(("dim_in", "dim_out"), SHAPES)
def test_a_random_projector_is_orthonormal_fixed_and_of_its_seed(dim_in: int, dim_out: int) -> None:
    before = torch.get_rng_state()
    layer = random_projector(dim_in, dim_out, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    matrix = layer(torch.eye(dim_in))
    gram = matrix @ matrix.T if dim_out >= dim_in else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(min(dim_in, dim_out)), atol=1e-5, rtol=0)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    assert torch.equal(layer.weight, random_projector(dim_in, dim_out, seed=3).weight)
    assert not torch.equal(layer.weight, random_projector(dim_in, dim_out, seed=4).weight)


def test_the_random_matrix_of_seed_zero_has_not_changed() -> None:
    drawn = [[0.5350, -0.7564, -0.3765], [-0.1699, 0.3402, -0.9249]]  # torch 2.15
    found = random_projector(3, 2, seed=0).weight.numpy()
    np.testing.assert_allclose(found, drawn, atol=1e-4)


def test_learned_projectors_are_of_their_seed_and_draw_nothing_else() -> None:
    before = torch.get_rng_state()
    for make in (linear_projector, simkd_projector):
        first, again, other = (make(4, 6, seed=seed) for seed in (0, 0, 1))
        states = [torch.cat([p.flatten() for p in one.parameters()]) for one in (
            first, again, other)]  # fmt: skip
        assert torch.equal(states[0], states[1])
        assert not torch.equal(states[0], states[2])
        assert first(torch.randn(5, 4, generator=torch.Generator())).shape == (5, 6)
    assert torch.equal(before, torch.get_rng_state())


def test_simkd_s_bottleneck_is_counted() -> None:
    layers = simkd_projector(4, 6, seed=0)
    # 4 x 3, a norm of 3, 3 x 6 + 6
    assert sum(p.numel() for p in layers.parameters()) == 12 + 6 + 24
    assert float(layers(torch.randn(64, 4)).detach().min()) < 0  # the end is no ReLU
