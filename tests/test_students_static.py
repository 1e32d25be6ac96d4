"""Static students: means over the tokens a mask shows, learned weights, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor

from students import Encoder, StudentError, UnknownStudentError, build_student

IDS = torch.tensor([[3, 4, 4, 0], [5, 6, 7, 8], [9, 1, 2, 3]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": IDS * 0}


def static(name: str = "static/6", **changes: Any) -> Encoder:
    settings: dict[str, Any] = {"dim_out": 0, "modality": "text", "vocabulary": 12, "options": {}}
    return build_student(name, **(settings | changes)).eval()


def means_by_loop(table: Tensor, weights: Tensor) -> list[Tensor]:
    found = []
    for ids, mask in zip(IDS, MASK, strict=True):
        shown = [(table[i], weights[i].exp()) for i, m in zip(ids, mask, strict=True) if m]
        total = sum((w for _, w in shown), torch.zeros(()))
        parts = [row * w / total for row, w in shown]
        found.append(torch.stack(parts).sum(dim=0) if parts else torch.zeros(table.shape[1]))
    return found


def test_a_row_is_the_mean_of_the_tokens_that_the_mask_shows() -> None:
    network = static()
    assert network.dim_out == 6
    table = network.get_parameter("body.embeddings.weight")
    torch.testing.assert_close(network(BATCH), torch.stack(means_by_loop(table, torch.zeros(12))))


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_weights_share_a_text_out_among_its_tokens(size: float) -> None:
    network = static(options={"weighting": True})
    weights = network.get_parameter("body.weights")
    assert not weights.any()
    torch.testing.assert_close(network(BATCH), static()(BATCH))  # at first as without
    with torch.no_grad():
        weights.copy_(torch.linspace(-1, 1, 12))
    table = network.get_parameter("body.embeddings.weight")
    torch.testing.assert_close(network(BATCH), torch.stack(means_by_loop(table, weights)))
    with torch.no_grad():
        weights.mul_(size)
    rows = network(BATCH)
    assert bool(rows.isfinite().all())
    rows.square().sum().backward()
    assert weights.grad is not None
    assert bool(weights.grad.isfinite().all())
    assert bool(weights.grad.any()) is (size == 1.0)  # else one token has it all


def test_a_static_student_ends_in_a_neck_where_a_width_is_asked_for() -> None:
    network = static(dim_out=6, seed=3)
    bare = static(seed=3)
    torch.testing.assert_close(network.neck(bare(BATCH)), network(BATCH))
    assert isinstance(network.neck, torch.nn.Linear)


def test_padding_changes_no_row() -> None:
    network = static(options={"weighting": True})
    longer = {
        "input_ids": torch.nn.functional.pad(IDS, (0, 3), value=11),
        "attention_mask": torch.nn.functional.pad(MASK, (0, 3)),
    }
    torch.testing.assert_close(network(longer), network(BATCH))


@pytest.mark.parametrize("name", ["static/0", "static/big", "static/-4", "static/1.5", "static/²"])
def test_a_width_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UnknownStudentError, match="static/<dim> wants the embeddings' width"):
        static(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "image"}, "static/6 reads texts, but the data are images"),
        ({"vocabulary": 0}, "static/6 needs the size of the tokenizer's vocabulary"),
        ({"options": {"wieghting": True}}, "cannot be built with no option 'wieghting'; known: we"),
        ({"options": {"weighting": 3}}, "cannot be built with weighting = 3; known"),
    ],
)
def test_what_a_static_student_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(StudentError, match=message):
        static(**changes)
