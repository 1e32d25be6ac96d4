"""Which layers the words of ``include`` mean, and the layers that no surgery may take."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from students.nested.errors import SurgeryError
from students.nested.selection import pattern_of, select
from students.nested.surgery import nest
from tests.surgery_examples import FAMILIES, bert, bert_for_tokens, deit, mobilenet

ATTENTION = {
    "bert": ("bert.encoder.layer.0.attention.self.query", 8),
    "llama": ("model.layers.0.self_attn.o_proj", 8),
    "neox": ("gpt_neox.layers.0.attention.query_key_value", 4),
    "gpt2": ("transformer.h.0.attn.c_attn", 4),
    "deit": ("blocks.0.attn.qkv", 4),
}
HEADS = {
    "bert": "classifier", "llama": "lm_head", "neox": "lm_head", "deit": "head",
    "mobilenet": "classifier", "timm_resnet": "fc", "torchvision_resnet": "fc",
    "torchvision_vit": "heads.head",
}  # fmt: skip
EMBEDDINGS = {
    "bert": "bert.embeddings.word_embeddings", "llama": "model.embed_tokens",
    "neox": "gpt_neox.embed_in",
}  # fmt: skip


@pytest.mark.parametrize("family", ATTENTION)
def test_attention_of_each_family(family: str) -> None:
    one, count = ATTENTION[family]
    found = select(FAMILIES[family](), "attention").layers
    assert one in found
    assert len(found) == count
    assert not found.keys() & select(FAMILIES[family](), "mlp").layers.keys()


@pytest.mark.parametrize("family", HEADS)
def test_head_of_each_family(family: str) -> None:
    assert list(select(FAMILIES[family](), "head").layers) == [HEADS[family]]


@pytest.mark.parametrize("family", EMBEDDINGS)
def test_embeddings_are_of_tokens_and_not_of_places(family: str) -> None:
    assert list(select(FAMILIES[family](), "embedding").layers) == [EMBEDDINGS[family]]


def test_patterns_add_up_and_take_back_in_the_networks_order() -> None:
    words = ("head", "blocks.*.mlp.fc1", "!blocks.0.*")
    assert list(select(deit(), words).layers) == ["blocks.1.mlp.fc1", "head"]
    assert list(select(deit(), "blocks.1.mlp.fc2").layers) == ["blocks.1.mlp.fc2"]


def test_depthwise_convolutions_and_those_that_weigh_channels() -> None:
    found = select(mobilenet(), "mlp")
    assert found.left_out["blocks.0.0.conv_dw"] == (
        "depthwise or in groups, it is no product of two small matrices"
    )
    assert "conv_stem" not in found.layers.keys() | found.left_out.keys()
    squeezed = FAMILIES["torchvision_mobilenet"]()
    assert "features.1.block.1.fc1" not in select(squeezed, "mlp").layers
    assert "features.1.block.1.fc1" in select(squeezed, "convolution").layers
    with pytest.raises(SurgeryError, match=r"^blocks\.0\.0\.conv_dw: depthwise"):
        select(mobilenet(), "blocks.0.0.conv_dw")  # by its very name
    with pytest.raises(SurgeryError, match=r"nothing is left to nest.*17 left out; blocks\.0\.0"):
        select(mobilenet(), "*.conv_dw")


def test_a_word_that_finds_nothing_shows_what_is_near() -> None:
    message = (
        r"include='\*\.intermediate\.dnse' finds no layer of this BertForSequenceClassification; "
        r"nearest: bert\.encoder\.layer\.\*\.intermediate\.dense"
    )
    with pytest.raises(SurgeryError, match=message):
        select(bert(), "*.intermediate.dnse")
    with pytest.raises(SurgeryError, match=r"include='hed' finds.*nearest: head"):
        select(deit(), ("mlp", "!hed"))
    with pytest.raises(SurgeryError, match=r"include='attention' finds no.*there are: 0$"):
        select(nn.Sequential(nn.Linear(2, 2)), "attention")
    with pytest.raises(SurgeryError, match=r"there are: none"):
        select(nn.Sequential(nn.ReLU()), "all")


@pytest.mark.parametrize("words", [(), ("!head",), ("head", "!head")])
def test_words_that_leave_nothing_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(SurgeryError, match="nothing is left to nest"):
        select(deit(), words)


def test_layers_that_are_nested_already_are_refused() -> None:
    network = deit()
    nest(network)
    message = r"blocks\.0\.mlp\.fc1 is nested already; leave it out with '!blocks"
    with pytest.raises(SurgeryError, match=message):
        select(network, ("mlp", "attention"))
    assert len(select(network, ("all", "!*.mlp.*")).layers) == 6


def test_tied_weights_are_refused_only_if_they_are_meant() -> None:
    network = bert_for_tokens()
    assert len(select(network, "mlp").layers) == 4
    for words, name in (("head", "cls.predictions.decoder"), ("embedding", "word_embeddings")):
        with pytest.raises(SurgeryError, match=rf"{name}\.weight is tied to .*leave it out with"):
            select(network, words)


def test_a_layer_under_two_names_and_a_shared_bias_are_tied_too() -> None:
    shared = nn.Linear(3, 3)
    with pytest.raises(SurgeryError, match=r"^0\.weight is tied to 1\.weight"):
        select(nn.Sequential(shared, shared), "all")
    other = nn.Linear(3, 3)
    other.bias = shared.bias
    with pytest.raises(SurgeryError, match=r"^0\.bias is tied to 1\.bias"):
        select(nn.Sequential(shared, other), "all")


class Packed(nn.Module):
    """As torch's own quantised layers: the weight is behind a method."""

    def weight(self) -> Tensor:
        return torch.zeros(2, 2)


def whole_numbers(dtype: torch.dtype) -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(torch.zeros(2, 2).to(dtype), requires_grad=False)
    return layer


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (whole_numbers(torch.int8), r"torch\.int8"),
        (whole_numbers(torch.float8_e4m3fn), r"torch\.float8_e4m3fn"),
        (Packed(), "Packed"),
    ],
)
def test_quantised_weights_are_refused(layer: nn.Module, kind: str) -> None:
    with pytest.raises(SurgeryError, match=rf"^0: a quantised weight \({kind}\) cannot be nested"):
        select(nn.Sequential(layer), "all")


def test_a_weight_of_nan_is_refused() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 1] = float("inf")
    with pytest.raises(SurgeryError, match=r"^0: NaN or infinity among its weights"):
        select(nn.Sequential(layer), "all")


def test_layers_that_do_more_or_other_things_are_left_out() -> None:
    network = nn.Sequential(
        nn.Linear(4, 4),
        parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.Conv1d(4, 4, 1),
        nn.LayerNorm(4),
        nn.Conv2d(4, 4, 3, padding_mode="reflect"),
    )
    found = select(network, "all")
    assert list(found.layers) == ["0"]
    assert list(found.left_out) == ["1", "2", "4"]
    assert "whose weight is computed" in found.left_out["1"]
    with pytest.raises(SurgeryError, match=r"^2: a Conv1d cannot be nested"):
        select(network, ("0", "2"))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("blocks.11.mlp.fc1", "blocks.*.mlp.fc1"),
        ("features.3.block.0.0", "features.*.block.*.*"),
        ("0", "*"),
        ("layer1.conv2", "layer1.conv2"),
    ],
)
def test_a_pattern_for_the_layers_of_all_blocks(name: str, pattern: str) -> None:
    assert pattern_of(name) == pattern
