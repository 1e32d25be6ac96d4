from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill.stages.measure import count_multiply_adds, measure, measure_head, state_bytes

QUICK: dict[str, Any] = {"device": "cpu", "repeats": 2, "seconds": 0.2}


def adds(module: nn.Module, inputs: torch.Tensor) -> int:
    return count_multiply_adds(module.eval(), inputs)[0]


def test_a_linear_layer_costs_inputs_times_outputs() -> None:
    assert adds(nn.Linear(7, 5), torch.ones(1, 7)) == 35
    assert adds(nn.Linear(7, 5, bias=False), torch.ones(1, 7)) == 35


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # out pixels x out channels x in channels x kernel area
        (nn.Conv2d(3, 8, 3, padding=1), 10 * 10 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, stride=2), 4 * 4 * 8 * 3 * 9),
        (nn.Conv2d(3, 6, 3, groups=3, padding=1), 10 * 10 * 6 * 1 * 9),
        (nn.Conv2d(3, 8, 1), 10 * 10 * 8 * 3),
    ],
    ids=["padded", "strided", "grouped", "pointwise"],
)
def test_a_convolution_costs_what_arithmetic_says(layer: nn.Module, expected: int) -> None:
    assert adds(layer, torch.ones(1, 3, 10, 10)) == expected


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, _ = self.attention(x, x, x, need_weights=False)
        assert isinstance(found, torch.Tensor)
        return found


def test_attention_costs_its_four_products_and_two_tables() -> None:
    tokens, width = 5, 12
    projections = 4 * tokens * width * width  # queries, keys, values, output
    tables = 2 * tokens * tokens * width  # scores, weighted values
    assert adds(Attention(), torch.ones(1, tokens, width)) == projections + tables


def test_a_fused_encoder_layer_is_counted_too() -> None:
    layer = nn.TransformerEncoderLayer(12, 2, dim_feedforward=24, batch_first=True)
    tokens, width = 5, 12
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    assert adds(layer, torch.ones(1, tokens, width)) == attention + 2 * tokens * width * 24
    assert torch.backends.mha.get_fastpath_enabled()  # given back as it was


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, _ = self.lstm(x)
        assert isinstance(found, torch.Tensor)
        return found


def test_what_cannot_be_counted_is_named() -> None:
    cost = measure("lstm", "teacher", Recurrent(), torch.ones(1, 3, 4), batches=(1,), **QUICK)
    counted_in_full = 4 * 4 * (4 + 4) * 3  # four gates of 4 from 8 numbers, three steps
    if cost.multiply_adds < counted_in_full:  # which kernel runs depends on the CPU
        assert any(note.startswith("multiply-adds leave out ") for note in cost.notes)


def test_nothing_is_said_to_be_left_out_of_a_network_that_is_counted_in_full() -> None:
    cost = measure("x", "head", nn.Linear(3, 2), torch.ones(1, 3), batches=(1,), **QUICK)
    assert not any("leave out" in note for note in cost.notes)


def test_multiply_adds_are_of_one_input_whatever_rows_are_given() -> None:
    cost = measure(
        "x", "student", nn.Linear(3, 2), torch.ones(5, 3), batches=(1, 7), **QUICK
    )  # fmt: skip
    assert cost.multiply_adds == 6
    assert [timed.batch for timed in cost.latencies] == [1, 7]
    assert all(timed.seconds > 0 and timed.device == "cpu" for timed in cost.latencies)


class RowsSeen(nn.Module):
    """Remembers the batches it was given, and whether it was in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.seen: list[tuple[int, bool, float]] = []

    def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
        rows = prepared["a"]
        self.seen.append((len(rows), self.training, float(rows.sum())))
        assert len(prepared["b"]) == len(rows)
        found = self.layer(rows)
        assert isinstance(found, torch.Tensor)
        return found


def test_inputs_are_repeated_to_fill_a_batch_and_the_mode_is_given_back() -> None:
    module = RowsSeen().train()
    module.layer.eval()
    inputs = {"a": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "b": torch.ones(2, 3)}
    measure("x", "student", module, inputs, batches=(5,), **QUICK)
    assert {rows for rows, _, _ in module.seen} == {1, 5}
    assert not any(training for _, training, _ in module.seen)
    assert {total for rows, _, total in module.seen if rows == 5} == {1 + 2 + 1 + 2 + 1}
    assert module.training
    assert not module.layer.training


def test_the_median_ignores_one_slow_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *(t for pair in CALLS for t in pair)])
    monkeypatch.setattr("distill.stages.measure.time.perf_counter", lambda: next(clock))
    cost = measure(
        "x", "head", nn.Linear(2, 2), torch.ones(1, 2), device="cpu", batches=(1,), repeats=3,
        seconds=100.0,
    )  # fmt: skip
    assert cost.latencies[0].seconds == pytest.approx(0.25)


CALLS = [(1.0, 8.0), (8.0, 9.0), (10.0, 10.25), (11.0, 18.0), (19.0, 19.125)]  # 2 warm up, 3 count


def test_a_slow_module_is_called_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 9.0])
    monkeypatch.setattr("distill.stages.measure.time.perf_counter", lambda: next(clock))
    cost = measure(
        "x", "teacher", nn.Linear(2, 2), torch.ones(1, 2), device="cpu", batches=(1,), repeats=30
    )
    assert cost.latencies[0].seconds == 9.0


def test_parameters_and_bytes_are_of_everything_saved() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    # 8 weights and biases; 4 of the norm; its 4 running figures and an 8-byte counter are saved too
    cost = measure("x", "student", module, torch.ones(2, 3), batches=(2,), **QUICK)
    assert cost.parameters == 12
    assert cost.bytes_on_disk == state_bytes(module) == 4 * 16 + 8
    given = measure(
        "x", "student", module, torch.ones(2, 3), batches=(2,), bytes_on_disk=77, **QUICK
    )
    assert given.bytes_on_disk == 77


def test_a_head_is_measured_on_features_that_are_there() -> None:
    weight, bias = np.ones((3, 5), np.float32), np.zeros(3, np.float32)
    cost = measure_head("full", weight, bias, batches=(1,), repeats=2, seconds=0.2)
    assert (cost.name, cost.role) == ("full", "head")
    assert (cost.parameters, cost.multiply_adds) == (18, 15)
    assert len(cost.notes) == 1
    assert cost.notes[0].startswith("timed on cpu with ")


def test_the_notes_say_what_one_input_was() -> None:
    inputs = {"a": torch.ones(2, 2), "b": torch.ones(2, 3, 4)}
    cost = measure("x", "student", RowsSeen(), inputs, batches=(1,), **QUICK)
    assert "one input is a 2, b 3×4" in cost.notes


def test_no_inputs_is_an_error() -> None:
    with pytest.raises(ValueError, match="measuring x needs at least one input, got none"):
        measure("x", "head", nn.Linear(2, 2), torch.ones(0, 2), device="cpu")
