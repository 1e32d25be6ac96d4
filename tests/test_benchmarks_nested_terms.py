"""Terms of the paper's ablation, and the loss that adds them up: held against values by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.study.nested_mlp import Mlp, factored
from benchmarks.study.nested_terms import (
    Answer,
    Extra,
    ExtraPasses,
    factored_layers,
    hidden_match,
    logit_divergence,
    logit_error,
    make_orthonormal,
    orthogonality,
    residual_orthogonality,
)
from students.nested import Learning, NestedObjective, NestedRecipe, RankPasses

RANKS = (8, 2)


def mlp() -> Mlp:
    """Without chance, so that passes can be compared."""
    return factored(12, 3, 8, seed=3).eval()


def answer(logits: Tensor, *hidden: Tensor) -> Answer:
    return Answer(logits=logits, hidden=hidden)


# --- terms ----------------------------------------------------------------------------------------


def test_orthogonality_is_the_squared_distance_of_the_grams_from_identity() -> None:
    network = mlp()
    wanted = 0.0
    for layer in factored_layers(network):
        for factor in (layer.down, layer.up.T):
            gram = factor.detach().double() @ factor.detach().double().T
            wanted += float(((gram - torch.eye(8)) ** 2).sum())
    nothing = answer(torch.zeros(1, 3))
    assert float(orthogonality(network, nothing, nothing).detach()) == pytest.approx(wanted)
    assert len(factored_layers(network)) == 2
    make_orthonormal(network)
    assert float(orthogonality(network, nothing, nothing).detach()) < 1e-8


def test_the_nearest_orthonormal_factor_is_the_polar_one() -> None:
    network = mlp()
    layer = factored_layers(network)[0]
    before = layer.down.detach().double()
    make_orthonormal(network)
    values, vectors = torch.linalg.eigh(before @ before.T)
    wanted = vectors @ torch.diag(values**-0.5) @ vectors.T @ before
    torch.testing.assert_close(layer.down.detach().double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("some", "whole", "wanted"),
    [
        pytest.param([1.0, 0.0], [1.0, 5.0], 0.0, id="the-rest-stands-upright"),
        pytest.param([1.0, 0.0], [3.0, 0.0], 1.0, id="the-rest-is-more-of-it"),
        pytest.param([1.0, 0.0], [-3.0, 0.0], 1.0, id="the-rest-takes-it-back"),
        pytest.param([1.0, 0.0], [2.0, 1.0], 0.5, id="at-45-degrees"),
    ],
)
def test_residual_orthogonality_is_a_squared_cosine(
    some: list[float], whole: list[float], wanted: float
) -> None:
    logits = torch.zeros(1, 3)
    variant, anchor = (answer(logits, torch.tensor([each])) for each in (some, whole))
    assert float(residual_orthogonality(mlp(), variant, anchor)) == pytest.approx(wanted, abs=1e-6)


def test_matches_are_means_of_squares_of_what_follows_the_relu_or_of_logits() -> None:
    variant = answer(torch.tensor([[1.0, 2.0]]), torch.tensor([[-4.0, 1.0]]), torch.zeros(1, 2))
    anchor = answer(torch.tensor([[4.0, 1.0]]), torch.tensor([[-1.0, 3.0]]), torch.ones(1, 2))
    assert float(hidden_match(mlp(), variant, anchor)) == pytest.approx((4 / 2 + 1) / 2)
    assert float(logit_error(mlp(), variant, anchor)) == pytest.approx((9 + 1) / 2)
    q, p = (torch.softmax(each.logits.double(), dim=1) for each in (variant, anchor))
    wanted = float((p * (p / q).log()).sum())
    assert float(logit_divergence(mlp(), variant, anchor)) == pytest.approx(wanted, rel=1e-5)


# --- the loss -------------------------------------------------------------------------------------


def back(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def gradients(
    make: Callable[..., Any], *, ranks: tuple[int, ...] = RANKS, **given: Any
) -> dict[str, Tensor]:
    """Of one step of these ranks, by parameter."""
    network = mlp()
    drawn = torch.Generator().manual_seed(1)
    objective = NestedObjective(NestedRecipe(), count=len(ranks), steps=1, seed=0)
    one = Learning(network, objective)
    passes = make(one, ranks, on_figures=lambda *_: None, **given)
    passes.gradient(
        network,
        {"rows": torch.randn(5, 12, generator=drawn)},
        {"labels": torch.tensor([0, 1, 2, 0, 1])},
        at=0,
        backward=back,
    )
    return {name: each.grad for name, each in one.named_parameters() if each.grad is not None}


def test_without_terms_the_gradient_is_that_of_the_products_passes() -> None:
    ours, theirs = gradients(ExtraPasses, extra=Extra()), gradients(RankPasses)
    assert ours.keys() == theirs.keys()
    for name, each in ours.items():
        torch.testing.assert_close(each, theirs[name])


@pytest.mark.parametrize("term", [logit_error, logit_divergence, hidden_match])
def test_a_fixed_anchor_learns_nothing_of_a_term_and_a_moving_one_does(term: Any) -> None:
    """Told by the rows of A that the variant of rank 2 does not have."""
    plain = gradients(ExtraPasses, extra=Extra())["network.second.down"]
    for moves in (False, True):
        extra = Extra(terms={term: 2.0}, anchor_moves=moves)
        found = gradients(ExtraPasses, extra=extra)["network.second.down"]
        assert not torch.allclose(found[:2], plain[:2], atol=1e-5)
        assert torch.allclose(found[2:], plain[2:], atol=1e-7) is not moves


def test_a_variant_that_is_not_told_labels_learns_the_terms_alone() -> None:
    def none(network: Any, variant: Answer, anchor: Answer) -> Tensor:
        del network, anchor
        return variant.logits.sum() * 0

    name = "network.second.down"
    alone = gradients(ExtraPasses, extra=Extra(terms={none: 1.0}, told=False))[name]
    both = gradients(ExtraPasses, extra=Extra())[name]
    assert not torch.allclose(alone[:2], both[:2], atol=1e-5)
    torch.testing.assert_close(alone[2:], both[2:])  # which are the anchor's
    anchors = gradients(ExtraPasses, ranks=(8,), extra=Extra())[name]
    torch.testing.assert_close(alone, anchors)


def test_both_passes_drop_the_same_numbers() -> None:
    """At one and the same rank nothing is then left between a variant and its anchor."""
    network = mlp().train()
    one = Learning(network, NestedObjective(NestedRecipe(), count=2, steps=1, seed=0))
    seen: list[float] = []

    def term(network: Any, variant: Answer, anchor: Answer) -> Tensor:
        seen.append(float((variant.logits - anchor.logits).detach().abs().max()))
        return variant.logits.sum() * 0

    extra = Extra(terms={term: 1.0})
    passes = ExtraPasses(one, (8, 8), extra=extra, on_figures=lambda *_: None)
    inputs, targets = {"rows": torch.ones(5, 12)}, {"labels": torch.zeros(5).long()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for at in range(2):
            passes.gradient(network, inputs, targets, at=at, backward=back)
    assert seen == [0.0, 0.0]
