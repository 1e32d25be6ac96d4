"""What the study of nested networks computes beside training: held against answers by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.study.nested_cifar_page import behind, log10_weights
from benchmarks.study.nested_kept import kept
from benchmarks.study.nested_llama import losses, mean_log_kl, worst_log_ratio
from benchmarks.study.nested_mlp import (
    Dropout,
    Mlp,
    accuracies,
    accuracy,
    at_rank,
    dense_of,
    factored,
    over,
    renested,
    with_own,
)
from benchmarks.study.nested_objectives_page import THEIRS, apart, named
from benchmarks.study.nested_rows import Rows, principal
from benchmarks.study.nested_stories_page import rival, won

# --- what is kept ---------------------------------------------------------------------------------


def test_what_is_kept_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"b": 2, "a": [1.5]}

    for _ in range(2):
        assert kept(tmp_path / "new" / "one.json", make) == {"a": [1.5], "b": 2}
    assert len(made) == 1


def test_a_making_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        kept(tmp_path / "one.json", fail)
    assert kept(tmp_path / "one.json", lambda: {"x": 1}) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]
    assert json.loads((tmp_path / "one.json").read_text()) == {"x": 1}


# --- perceptrons ----------------------------------------------------------------------------------


def test_each_rank_has_gains_and_biases_of_its_own_and_those_between_the_next_ones_above() -> None:
    plain = factored(6, 3, 64, seed=0).eval()
    rows = {"rows": torch.randn(4, 6, generator=torch.Generator().manual_seed(0))}
    own = with_own(plain).eval()
    for rank in (64, 5, 1):
        accuracies(plain, Rows(features=rows["rows"], labels=torch.zeros(4).long()), [rank])
        torch.testing.assert_close(own(rows), plain(rows))  # both hold the same layers
    places = {64: 0, 50: 0, 8: 3, 5: 3, 3: 4, 2: 5, 1: 6}
    with torch.no_grad():
        layers: list[Any] = [own.first, own.second, own.head]
        for layer in layers:
            layer.gain.copy_(torch.arange(7.0)[:, None].expand_as(layer.gain))
            layer.bias.copy_(10 * torch.arange(7.0)[:, None].expand_as(layer.bias))
    for rank, place in places.items():
        hidden: list[Any] = [plain.first, plain.second]
        for layer in hidden:
            layer.rank = min(rank, layer.full_rank)
        found = rows["rows"]
        for part in (plain.first, plain.second, plain.head):
            found = part(found) * (1 + place) + 10 * place
            found = torch.relu(found) if part is not plain.head else found
        torch.testing.assert_close(own(rows), found)
    names = [name for name, _ in own.named_parameters()]
    assert len(names) == len(set(names)) == 3 + 3 + 2 + 3 * 2


def check_drops(drop: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """0.3 to the nearest 1/256, mean 1, columns apart; tolerances are five standard errors."""
    found = drop(torch.ones(400, 501))
    share = 77 / 256
    gone = found == 0
    error = math.sqrt(share * (1 - share) / found.numel())
    assert abs(float(gone.float().mean()) - share) < 5 * error
    assert abs(float(found.mean()) - 1) < 5 * error / (1 - share)
    torch.testing.assert_close(found[~gone], torch.full_like(found[~gone], 256 / 179))
    together = (gone[:, :-1] & gone[:, 1:]).float().mean()
    assert abs(float(together) - share**2) < 5 * math.sqrt(share**2 / found.numel())


def test_dropout_drops_each_number_by_itself() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        check_drops(Dropout(0.3))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda x: nn.Dropout(0.3)(x) * 0.7, id="not-scaled"),
        pytest.param(lambda x: nn.Dropout(0.5)(x), id="too-many"),
        pytest.param(lambda x: x, id="none"),
        pytest.param(
            lambda x: x * Dropout(0.3)(torch.ones(len(x), 1)).expand_as(x), id="whole-rows"
        ),
    ],
)
def test_the_dropout_check_can_fail(broken: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with pytest.raises(AssertionError):
            check_drops(broken)


def test_nothing_is_dropped_in_evaluation() -> None:
    rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Dropout(0.3).eval()(rows), rows)


def test_principal_directions_are_those_of_an_svd() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    rows *= np.array([5, 4, 3, 2, 1, 0.5], dtype=np.float32)
    found, share = principal(rows, 3)
    _, values, right = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(np.diag(right[:3] @ found)), 1, atol=1e-5)
    assert share == pytest.approx((values[:3] ** 2).sum() / (values**2).sum(), rel=1e-5)


def mlp() -> Mlp:
    return factored(12, 3, 8, seed=3).eval()


def test_a_plain_copy_gives_the_same() -> None:
    network, rows = mlp(), torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    copied = dense_of(network).eval()
    torch.testing.assert_close(copied({"rows": rows}), network({"rows": rows}))
    assert not any(name.endswith("up") for name, _ in copied.named_parameters())


def test_a_network_nested_anew_gives_the_same_at_full_rank() -> None:
    network = mlp()
    rows = Rows(
        features=torch.randn(40, 12, generator=torch.Generator().manual_seed(2)),
        labels=torch.zeros(40, dtype=torch.int64),
    )
    wanted = network({"rows": rows.features})
    for init in ("svd", "whitened"):
        found = renested(network, init, rows).eval()({"rows": rows.features})
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_ranks_above_what_a_layer_has_are_its_full_rank() -> None:
    assert at_rank(mlp(), 5) == {"first": 5, "second": 5}
    assert at_rank(mlp(), 64) == {"first": 8, "second": 8}


def test_accuracy_is_the_share_of_right_answers_at_each_rank() -> None:
    network = mlp()
    features = torch.randn(60, 12, generator=torch.Generator().manual_seed(4))
    labels = network({"rows": features}).argmax(dim=1)
    labels[:15] = (labels[:15] + 1) % 3
    rows = Rows(features=features, labels=labels)
    assert accuracy(network, rows) == pytest.approx(0.75)
    found = accuracies(network, rows, (8, 1))
    assert found["8"] == pytest.approx(0.75)
    assert found["1"] < 0.75


# --- the table of ranks ---------------------------------------------------------------------------


def test_how_far_behind_is_told_in_points_by_seed() -> None:
    nested = [{"2": 0.50, "1": 0.20}, {"2": 0.60, "1": 0.40}]
    separate = [{"2": 0.52, "1": 0.26}, {"2": 0.58, "1": 0.41}]
    assert over(nested[0], (2, 1)) == pytest.approx(0.35)
    assert behind(nested, separate, (2, 1)) == pytest.approx([4.0, -0.5])
    assert behind(nested, separate, (1,)) == pytest.approx([6.0, 1.0])


def test_the_course_of_a_weight_is_drawn_by_its_log() -> None:
    assert log10_weights([[1, 10.0], [2, 0.1]]) == [(1, 1.0), (2, -1.0)]


def test_a_row_is_held_against_its_like_without_the_term_by_seed() -> None:
    name = named("hidden match", 0.1, moves=False)
    assert name in THEIRS
    like = "two CEs, one draw of dropout for both"
    found = {
        name: [{"test": {"64": 0.7}}, {"test": {"64": 0.6}}],
        like: [{"test": {"64": 0.6}}, {"test": {"64": 0.65}}],
    }
    assert apart(found, name, (64,)) == pytest.approx([10.0, -5.0])


# --- the language model ---------------------------------------------------------------------------


def test_losses_are_those_by_hand() -> None:
    """Vocabulary of 2, one next token: KL of (1/2, 1/2) to (1/4, 3/4), and -log 3/4."""
    aim = torch.tensor([[[0.0, 0.0], [9.0, -9.0]]])
    logits = torch.tensor([[[0.0, math.log(3)], [-5.0, 7.0]]])
    ids = torch.tensor([[0, 1]])
    divergence, told = losses(logits, aim, ids)
    assert divergence == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert told == pytest.approx(-math.log(0.75))


def test_losses_are_sums_over_tokens_that_have_a_next() -> None:
    drawn = torch.Generator().manual_seed(0)
    aim, logits = (torch.randn(3, 5, 7, generator=drawn) for _ in range(2))
    ids = torch.randint(0, 7, (3, 5), generator=drawn)
    divergence, told = losses(logits, aim, ids)
    p, q = (torch.softmax(x.double(), dim=-1).numpy() for x in (aim, logits))
    wanted = sum(
        float((p[s, t] * np.log(p[s, t] / q[s, t])).sum()) for s in range(3) for t in range(4)
    )
    assert divergence == pytest.approx(wanted)
    nll = -sum(math.log(q[s, t, ids[s, t + 1]]) for s in range(3) for t in range(4))
    assert told == pytest.approx(nll)


def test_the_mean_log_kl_leaves_the_full_budget_out() -> None:
    found = {"1": {"kl": 1e-12}, "0.9": {"kl": math.e}, "0.5": {"kl": math.e**3}}
    assert mean_log_kl(found) == pytest.approx(2.0)


def test_a_budget_is_won_when_every_seed_beats_every_rival() -> None:
    rivals = {"a": {"0.5": {"kl": 2.0}}, "b": {"0.5": {"kl": 1.0}}}
    assert rival(rivals, "0.5") == ("b", 1.0)
    assert won([{"0.5": {"kl": 0.9}}, {"0.5": {"kl": 0.8}}], rivals, "0.5")
    assert not won([{"0.5": {"kl": 0.9}}, {"0.5": {"kl": 1.0}}], rivals, "0.5")


def test_the_worst_budget_is_told_beside_the_best_rival() -> None:
    rivals = [
        {"1": {"kl": 1e-12}, "0.9": {"kl": 1.0}, "0.5": {"kl": 4.0}},
        {"1": {"kl": 1e-12}, "0.9": {"kl": 2.0}, "0.5": {"kl": 2.0}},
    ]
    found = {"1": {"kl": 0.1}, "0.9": {"kl": 0.5}, "0.5": {"kl": 1.5}}
    assert worst_log_ratio(found, rivals) == pytest.approx(math.log(1.5 / 2.0))
