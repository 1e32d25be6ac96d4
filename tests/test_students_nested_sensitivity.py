"""Damages against networks at those ranks, by hand, and what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from students.losses import kl
from students.nested.errors import CalibrationError, RankError
from students.nested.layers import NestedLinear
from students.nested.ranks import ranks, set_rank
from students.nested.sensitivity import divergence, sensitivities

RANKS = {"0": [1, 3, 8], "3": [2]}


class Counted(nn.Module):
    """Passes on what it gets, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            NestedLinear(8, 12, 8), nn.ReLU(), nn.Dropout(0.5), NestedLinear(12, 3, 3), Counted()
        )


def batches() -> list[Tensor]:
    """Of different sizes: rows must count alike."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(rows, 8, generator=generator) for rows in (7, 4)]


def at(model: nn.Module, wanted: Mapping[str, int]) -> Tensor:
    set_rank(model, {"0": 8, "3": 3, **wanted})
    with torch.no_grad():
        found: Tensor = model.eval()(torch.cat(batches()))
    return found


def test_damages_are_the_divergence_from_the_full_network_with_one_layer_cut_at_a_time() -> None:
    found = sensitivities(network(), iter(batches()), RANKS)
    assert {name: sorted(of) for name, of in found.items()} == {"0": [1, 3, 8], "3": [2, 3]}
    assert found["0"][8] == found["3"][3] == 0.0
    model = network()
    full = at(model, {})
    for name, rank in (("0", 1), ("0", 3), ("3", 2)):
        expected = float(kl(at(model, {name: rank}), full, 1.0))
        assert found[name][rank] == pytest.approx(expected, rel=1e-4)
    assert found["0"][1] > found["0"][3] > 0


def test_the_network_is_left_as_it_was_and_no_pass_is_wasted() -> None:
    model = network().train()
    set_rank(model, {"0": 2, "3": 1})
    heard: list[int] = []
    first = sensitivities(model, batches(), RANKS, on_forward=heard.append)
    assert first == sensitivities(network(), batches(), RANKS)  # whatever its ranks and mode were
    assert ranks(model) == {"0": 2, "3": 1}
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    counted = model[-1]
    assert isinstance(counted, Counted)
    assert counted.calls == sum(heard) == 2 * (1 + 3)


@pytest.mark.parametrize("done", range(7))
def test_what_was_tried_is_not_tried_again_and_gives_the_same_bits(done: int) -> None:
    whole: dict[tuple[int, str, int], float] = {}
    expected = sensitivities(network(), batches(), RANKS, tried=whole)
    assert list(whole) == [(at, *of) for at in (0, 1) for of in (("0", 3), ("0", 1), ("3", 2))]
    tried = dict(list(whole.items())[:done])
    heard: list[int] = []
    model = network()
    found = sensitivities(model, batches(), RANKS, tried=tried, on_forward=heard.append)
    assert found == expected
    assert tried == whole
    assert sum(heard) == 8
    counted = model[-1]
    assert isinstance(counted, Counted)
    assert counted.calls == 8 - done - done // 3  # of a whole batch the full network is not asked


def test_another_loss_may_fall_and_is_cut_at_zero() -> None:
    labels = {7: torch.arange(7) % 3, 4: torch.arange(4) % 3}

    def rise(outputs: Any, full: Any, batch: Any) -> Tensor:
        now, before = (functional.cross_entropy(x, labels[len(batch)]) for x in (outputs, full))
        return now - before

    model = network()
    aims = torch.cat([labels[7], labels[4]])
    before = float(functional.cross_entropy(at(model, {}), aims))
    every = {"0": range(1, 8), "3": [1, 2]}
    found = sensitivities(network(), batches(), every, damage=rise)
    signs = set()
    for name, of in every.items():
        for rank in of:
            change = float(functional.cross_entropy(at(model, {name: rank}), aims)) - before
            assert found[name][rank] == pytest.approx(max(0.0, change), rel=1e-4, abs=1e-6)
            signs.add(change > 0)
    assert signs == {True, False}  # so that the cut was seen


def test_texts_count_what_their_mask_does_not_hide() -> None:
    generator = torch.Generator().manual_seed(2)
    found, full = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    batch = {"input_ids": torch.zeros(2, 3, dtype=torch.int64), "attention_mask": mask}
    kept = mask.bool()
    expected = float(kl(found[kept], full[kept], 1.0))
    assert float(divergence({"logits": found}, {"logits": full}, batch)) == pytest.approx(expected)
    # logits of whole texts have no positions to hide
    whole = float(kl(found[:, 0], full[:, 0], 1.0))
    assert float(divergence(found[:, 0], full[:, 0], batch)) == pytest.approx(whole)


def test_what_says_nothing_is_refused_by_its_name() -> None:
    with pytest.raises(CalibrationError, match="there are no calibration batches"):
        sensitivities(network(), [], RANKS)
    with pytest.raises(RankError, match="no nested layer is called '1'"):
        sensitivities(network(), batches(), {"1": [2]})
    with pytest.raises(RankError, match=r"3: the rank must be in 1..3, got 4"):
        sensitivities(network(), batches(), {"3": [4]})
    with pytest.raises(
        CalibrationError, match="0: the loss at rank 3 is nan on calibration batches"
    ):
        sensitivities(network(), [torch.full((2, 8), torch.nan)], RANKS)
