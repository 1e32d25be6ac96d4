"""The average of the weights over the steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from students import Evaluation
from students.averaging import Average
from students.checkpoint import read_tensors
from tests.training_examples import ROWS, network, recipe, scripted, train, weights


@pytest.mark.parametrize("decay", [0.999, 0.5])
def test_it_is_the_recursion_that_its_docstring_says(decay: float) -> None:
    net = nn.Linear(3, 2)
    net.bias.requires_grad_(False)
    average = Average(net, decay)
    expected = net.weight.detach().numpy().astype(np.float64)
    rng = np.random.default_rng(0)
    for step in range(1, 30):
        rows = rng.standard_normal((2, 3)).astype(np.float32)
        net.weight.data = torch.from_numpy(rows)
        average.update(step)
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * rows
    assert list(average.tensors()) == ["weight"]
    np.testing.assert_allclose(average.tensors()["weight"], expected, atol=1e-6)


def test_the_first_step_outweighs_the_random_beginning() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 11.0)
    average = Average(net, 0.9999)
    nn.init.constant_(net.weight, 0.0)
    average.update(1)
    assert float(average.tensors()["weight"]) == pytest.approx(2.0)


def test_within_the_block_the_network_has_the_average_and_then_its_own_again() -> None:
    net = nn.Linear(2, 2)
    average = Average(net, 0.5)
    start = net.weight.detach().clone()
    nn.init.ones_(net.weight)
    with average.in_place():
        assert torch.equal(net.weight, start)
    assert torch.equal(net.weight, torch.ones(2, 2))
    assert torch.equal(average.tensors()["weight"], start)


def test_the_average_is_evaluated_and_kept_and_changes_no_step(tmp_path: Path) -> None:
    """BatchNorm's statistics are those of the network as it is."""
    kept: dict[str, list[dict[str, torch.Tensor]]] = {"plain": [], "averaged": []}
    for name, ema in (("plain", 0.0), ("averaged", 0.9)):
        evaluate = scripted([(0.1, 1.0), (0.2, 1.0)])

        def watched(module: nn.Module, name: str = name, evaluate: Any = evaluate) -> Evaluation:
            kept[name].append({n: t.clone() for n, t in module.state_dict().items()})
            found: Evaluation = evaluate(module)
            return found

        with pytest.raises(StopIteration):  # before the third epoch is over
            train(tmp_path / name, evaluate=watched, recipe=recipe(ema=ema))
    plain, averaged = (
        read_tensors(tmp_path / name / "checkpoints" / "last.safetensors")[0] for name in kept
    )
    for name, tensor in plain.items():
        assert torch.equal(averaged[name], tensor), name
    best = weights(tmp_path / "averaged")
    learned = {name for name, _ in network().named_parameters()}
    for name, tensor in kept["averaged"][1].items():
        assert torch.equal(best[name], tensor), name
        assert torch.equal(tensor, kept["plain"][1][name]) == (name not in learned), name
        if name in learned:
            assert torch.equal(averaged[f"average.{name}"], tensor), name


def test_the_first_step_of_a_training_is_step_one(tmp_path: Path) -> None:
    """Epochs of one step: after the first, the average has come 9/11 of the way."""
    start = network().state_dict()["last.weight"]
    plan = recipe(epochs=2, batch_size=ROWS, ema=0.999)
    with pytest.raises(StopIteration):
        train(tmp_path, recipe=plan, evaluate=scripted([(0.1, 1.0)]))
    saved = read_tensors(tmp_path / "checkpoints" / "last.safetensors")[0]
    assert not torch.equal(saved["network.last.weight"], start)
    expected = start * 2 / 11 + saved["network.last.weight"] * 9 / 11
    torch.testing.assert_close(saved["average.last.weight"], expected)
