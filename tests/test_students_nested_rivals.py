"""Rivals of a nested network: truncated ones, plain layers of one rank, half of the blocks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from students.nested import NestedLayer, SurgeryError, matrix_of, nested_layers, set_rank
from students.nested.rivals import block_list, factored, first_half, truncated
from tests import surgery_examples as made
from tests.test_students_nested_widths import images, logits, tokens


def test_a_truncated_network_has_the_best_matrices_of_a_rank() -> None:
    """Eckart & Young: the error is the root of the squares of the singular values left out."""
    dense = made.deit()
    found = truncated(dense, "mlp", init="svd")
    set_rank(found, 3)
    for name, layer in nested_layers(found).items():
        matrix = matrix_of(dense.get_submodule(name)).detach()
        left_out = torch.linalg.svdvals(matrix)[3:].square().sum().sqrt()
        error = (layer.weight - matrix).norm()
        torch.testing.assert_close(error.detach(), left_out, rtol=1e-4, atol=1e-6)


def test_the_dense_network_stays_as_it_is() -> None:
    dense = made.deit()
    before = logits(dense, images())
    found = truncated(dense, "mlp", init="whitened", calibration=[images()])
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
    assert logits(dense, images()).equal(before)


def test_a_factored_network_is_plain_learns_and_does_what_the_nested_one_did() -> None:
    start = truncated(made.deit(), "mlp", init="svd").requires_grad_(False)
    ranks = dict.fromkeys(nested_layers(start), 4)
    ranks["blocks.0.mlp.fc1"] = 15  # beyond break-even
    found = factored(start, ranks)
    set_rank(start, ranks)
    torch.testing.assert_close(logits(found, images()), logits(start, images()))
    assert isinstance(found.get_submodule("blocks.0.mlp.fc1"), nn.Linear)
    pair = found.get_submodule("blocks.0.mlp.fc2")
    assert isinstance(pair, nn.Sequential)
    assert [tuple(part.get_parameter("weight").shape) for part in pair] == [(4, 24), (16, 4)]
    assert not any(isinstance(module, NestedLayer) for module in found.modules())
    assert all(parameter.requires_grad for parameter in found.parameters())


def test_a_factored_network_loads_its_own_state_and_knows_no_surgery() -> None:
    start = truncated(made.deit(), "mlp", init="svd")
    ranks = dict.fromkeys(nested_layers(start), 4)
    found, other = factored(start, ranks), factored(start, ranks)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(0.5)
    other.load_state_dict(found.state_dict())
    assert logits(other, images()).equal(logits(found, images()))
    assert not hasattr(found, "nested_surgery")
    assert hasattr(start, "nested_surgery")


@pytest.mark.parametrize(
    ("family", "batch", "name"),
    [
        (made.deit, images, "blocks"),
        (made.bert, tokens, "bert.encoder.layer"),
        (made.llama, tokens, "model.layers"),
    ],
)
def test_the_first_half_runs_the_first_blocks_alone(
    family: Callable[[], nn.Module], batch: Callable[[], Any], name: str
) -> None:
    dense = family()
    found, told = first_half(dense)
    assert told == name
    assert len(list(found.get_submodule(name).children())) == 1
    seen: list[Tensor] = []
    first = dense.get_submodule(name).get_submodule("0")

    def keep(_: nn.Module, __: Any, outputs: Any) -> None:
        seen.append(outputs if isinstance(outputs, Tensor) else outputs[0])

    handle = first.register_forward_hook(keep)
    logits(dense, batch())
    handle.remove()
    found.get_submodule(name).get_submodule("0").register_forward_hook(keep)
    assert logits(found, batch()).shape == logits(dense, batch()).shape
    torch.testing.assert_close(seen[0], seen[1])
    assert len(list(dense.get_submodule(name).children())) == 2  # as it was


def test_an_odd_number_of_blocks_keeps_the_larger_half() -> None:
    blocks = nn.Sequential(*(nn.Linear(2, 2) for _ in range(5)))
    found, _ = first_half(nn.ModuleDict({"blocks": blocks}))
    assert len(list(found.get_submodule("blocks").children())) == 3


def test_blocks_are_those_of_the_most_parameters() -> None:
    small = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    large = nn.ModuleList([nn.Linear(9, 9), nn.Linear(9, 9)])
    assert block_list(nn.ModuleDict({"a": small, "b": large})) == "b"
    with pytest.raises(SurgeryError, match="no list of like blocks"):
        block_list(nn.ModuleDict({"mixed": nn.Sequential(nn.Linear(2, 2), nn.ReLU())}))
