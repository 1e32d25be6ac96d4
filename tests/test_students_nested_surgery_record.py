"""The record of a surgery: what it says, and the networks and checkpoints that it fits."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from students.nested.errors import NestedError, OtherSurgeryError
from students.nested.ranks import nested_layers, set_rank
from students.nested.surgery import nest, nest_like
from students.nested.surgery_record import Replaced, Surgery, surgery_of
from tests.surgery_examples import answer, batch_for, bert, deit, gpt2, mobilenet, texts


def test_what_one_layer_costs_by_hand() -> None:
    layer = Replaced(name="a", kind="linear", d_in=12, d_out=6, rank=5, init="svd")
    assert layer.break_even == 4.0
    assert layer.dense_flops == 144
    assert layer.flops == 2 * 5 * 18
    table = Replaced(name="a", kind="embedding", d_in=12, d_out=6, rank=5, init="svd")
    assert (table.dense_flops, table.flops) == (0, 2 * 5 * 6)
    assert not layer.few
    seen = [
        Replaced(name="a", kind="linear", d_in=12, d_out=6, rank=5, init="", rows=n)
        for n in (11, 12)
    ]
    assert [each.few for each in seen] == [True, False]


def test_a_table_with_a_line_for_layers_that_are_alike() -> None:
    surgery = nest(mobilenet(), rank=8)
    lines = surgery.as_text().splitlines()
    before = sum(each.d_in * each.d_out for each in surgery.layers)
    after = sum(each.rank * (each.d_in + each.d_out) for each in surgery.layers)
    assert lines[0] == (
        f"nested 34 layers, init svd: {before:,} numbers of their matrices are {after:,} in factors"
    )
    assert lines[1].split() == [
        *("layers", "kind", "d_in", "d_out", "R", "break-even", "FLOPs", "a", "row", "at", "R")
    ]
    assert any(line.split()[:3] == ["blocks.*.*.conv_pw", "x", "3"] for line in lines)
    assert sum(line.startswith("left out: blocks.*.*.conv_dw (17 layers): ") for line in lines) == 1
    assert len({len(line) for line in lines[1:3]}) == 1


@pytest.mark.parametrize("family", [bert, deit, gpt2, mobilenet])
def test_a_fresh_network_takes_the_checkpoint_of_one_that_was_nested(family: type) -> None:
    network, batch = family(), batch_for(family.__name__)
    nest(
        network, "all" if family is bert else "mlp", rank=0.5, init="whitened", calibration=[batch]
    )
    set_rank(network, 1)
    told = json.loads(json.dumps(surgery_of(network).to_json()))
    fresh = family()
    surgery = Surgery.from_json(told)
    assert surgery == surgery_of(network)
    nest_like(fresh, surgery)
    assert answer(fresh, batch).isnan().any()  # until it is filled
    fresh.load_state_dict(network.state_dict())
    np.testing.assert_array_equal(answer(fresh, batch), answer(network, batch))
    assert surgery_of(fresh) == surgery
    learns = {name: p.requires_grad for name, p in network.named_parameters()}
    assert {name: p.requires_grad for name, p in fresh.named_parameters()} == learns


def test_a_checkpoint_of_another_surgery_is_refused_by_the_layer_that_differs() -> None:
    network, plain = deit(), deit()
    nest(network, rank=8)
    lower, other = deit(), deit()
    nest(lower, rank=7)
    nest(other, ("mlp", "head", "!blocks.1.mlp.fc2"), rank=8)
    begins = "^the checkpoint is of another surgery: "
    with pytest.raises(OtherSurgeryError, match=begins + r"up of blocks\.0\.mlp\.fc1 is \(24, 7\)"):
        network.load_state_dict(lower.state_dict())
    with pytest.raises(OtherSurgeryError, match=begins + r"blocks\.0\.mlp\.fc1 is nested here and"):
        network.load_state_dict(plain.state_dict())
    with pytest.raises(OtherSurgeryError, match=begins + r"blocks\.1\.mlp\.fc2 is nested here and"):
        network.load_state_dict(other.state_dict())
    more = deit()
    nest(more, ("mlp", "head"), rank=8)
    for state in (more.state_dict(), {f"inner.{k}": v for k, v in more.state_dict().items()}):
        wrapped = nn.ModuleDict({"inner": network}) if "inner.head.up" in state else network
        with pytest.raises(OtherSurgeryError, match=begins + "head is nested there and not here"):
            wrapped.load_state_dict(state)


def test_copies_keep_the_record_and_the_check_and_parts_may_be_loaded() -> None:
    network = deit()
    nest(network, rank=8)
    twin = copy.deepcopy(network)
    assert surgery_of(twin) == surgery_of(network)
    with torch.no_grad():
        twin.get_parameter("blocks.0.mlp.fc1.up").zero_()
    network.load_state_dict(twin.state_dict())
    assert float(network.get_parameter("blocks.0.mlp.fc1.up").detach().abs().max()) == 0.0
    with pytest.raises(OtherSurgeryError):
        twin.load_state_dict(deit().state_dict())
    head = {name: tensor for name, tensor in twin.state_dict().items() if name.startswith("head")}
    assert twin.load_state_dict(head, strict=False).missing_keys


def test_a_surgery_of_another_network_is_refused_and_changes_nothing() -> None:
    network, other = deit(), nn.Sequential(nn.Linear(4, 3))
    surgery = nest(network, "head")
    with pytest.raises(OtherSurgeryError, match="this one has no 'head'"):
        nest_like(other, surgery)
    wide = deit()
    wide.head = nn.Linear(16, 6)
    with pytest.raises(OtherSurgeryError, match="head is 16 -> 5 there and 16 -> 6 here"):
        nest_like(wide, surgery)
    both = nest(deit(), ("mlp", "head"))
    with pytest.raises(OtherSurgeryError, match="head is 16 -> 5 there"):
        nest_like(wide, both)
    assert isinstance(wide.get_submodule("blocks.0.mlp.fc1"), nn.Linear)
    with pytest.raises(OtherSurgeryError, match="head there can be nested; it is nested already"):
        nest_like(network, surgery)


def test_a_record_from_before_gauges_were_a_choice_had_them() -> None:
    network = mobilenet()
    nest(network)
    told = surgery_of(network).to_json()
    for each in told["layers"]:
        del each["gauges"]
    assert Surgery.from_json(told) == surgery_of(network)


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(NestedError, match="carries no record of a surgery; nest it first"):
        surgery_of(deit())
    for data in ({}, {"layers": [{"name": "a"}], "left_out": {}}, {"layers": 3, "left_out": {}}):
        with pytest.raises(NestedError, match="this is no record of a surgery: "):
            Surgery.from_json(data)


def test_the_record_is_no_part_of_the_state() -> None:
    network = gpt2()
    nest(network)
    assert not [name for name in network.state_dict() if "surgery" in name]
    network.train()
    network(**texts(), labels=texts()["input_ids"]).loss.backward()
    for layer in nested_layers(network).values():
        assert layer.up.grad is not None
        assert float(layer.up.grad.abs().max()) > 0
