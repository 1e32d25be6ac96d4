"""How families of networks name their layers: all foreign knowledge of the surgery.

A preset is a test of a layer and its name. ``"mlp"`` is the MLP blocks of transformers, and the
1 x 1 convolutions, which are those of a convolutional network: expansion and projection of
inverted residuals, first and last of bottlenecks, not those that weigh channels (squeeze and
excitation), which cost next to nothing and decide much.
"""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from students.nested.base import NestedLayer
from students.nested.building import filled

MLP = (
    # BERT, RoBERTa, ELECTRA and other encoders of their time
    "*.intermediate.dense", "*layer.*.output.dense",
    "*.ffn.lin1", "*.ffn.lin2",  # DistilBERT
    "*.ffn", "*.ffn_output",  # ALBERT
    # Llama, Mistral, Qwen, Gemma; Phi-3
    "*.mlp.gate_proj", "*.mlp.up_proj", "*.mlp.down_proj", "*.mlp.gate_up_proj",
    "*.mlp.dense_h_to_4h", "*.mlp.dense_4h_to_h",  # GPT-NeoX (Pythia), BLOOM, Falcon
    "*.mlp.c_fc", "*.mlp.c_proj",  # GPT-2, GPT-Neo
    "*.mlp.fc_in", "*.mlp.fc_out",  # GPT-J
    "*.layers.*.fc1", "*.layers.*.fc2",  # OPT, Whisper, BART
    "*.DenseReluDense.wi", "*.DenseReluDense.wi_?", "*.DenseReluDense.wo",  # T5
    # ViT, DeiT, Swin and ConvNeXt of timm, ViT and CLIP of transformers; SwiGLU; Mixer
    "*.mlp.fc1", "*.mlp.fc2", "*.mlp.fc1_[gx]", "*.mlp_tokens.fc?", "*.mlp_channels.fc?",
    "*.mlp.[0-9]", "*.mlp.linear_[12]",  # ViT and Swin of torchvision
    "*.linear1", "*.linear2",  # torch's own encoder layer
    "*.mlp.Wi", "*.mlp.Wo",  # ModernBERT
)  # fmt: skip

ATTENTION = (
    "*.attention.self.query", "*.attention.self.key", "*.attention.self.value",  # BERT
    "*.attention.output.dense",
    "*.attention.?_lin", "*.attention.out_lin",  # DistilBERT
    "*attn.?_proj", "*attn.out_proj", "*attn.qkv_proj",  # Llama, OPT, CLIP; Phi-3
    "*.attention.?_proj", "*.attention.out_proj",  # ViT of transformers, GPT-Neo
    "*.self_attention.out_proj",  # torchvision
    "*.attention.query_key_value", "*.attention.dense",  # GPT-NeoX
    "*.self_attention.query_key_value", "*.self_attention.dense",  # BLOOM, Falcon
    "*.attn.c_attn", "*.attn.c_proj",  # GPT-2
    "*.attn.qkv", "*.attn.proj", "*.attn.[qkv]",  # timm
    "*.SelfAttention.[qkvo]", "*.EncDecAttention.[qkvo]",  # T5
    "*.attn.Wqkv", "*.attn.Wo",  # ModernBERT
)  # fmt: skip

HEAD = (
    "head", "*.head", "head.fc", "*.head.fc", "heads.head", "*.heads.head",  # timm, torchvision
    "fc", "*.fc", "classifier", "*.classifier", "classifier.*", "*.classifier.*",
    "lm_head", "*.lm_head", "embed_out", "*.embed_out", "score", "*.score",
    "*.predictions.decoder", "vocab_projector",
)  # fmt: skip

# a few rows each, or read by their place and not by their token
NOT_TOKENS = ("*position*", "*type_embeddings", "*wpe", "*relative_attention_bias", "*embed_pos*")

SQUEEZE = (
    "*.conv_reduce", "*.conv_expand", "*.se.fc?", "*.se_module.*",  # timm
    "*.block.*.fc?",  # torchvision
)  # fmt: skip


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _mlp(name: str, layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        narrow = layer.kernel_size == (1, 1) or layer.groups > 1  # groups: so that they are told of
        return narrow and not _matches(name, SQUEEZE)
    return _matches(name, MLP) and not name.endswith("attention.output.dense")


def _attention(name: str, layer: nn.Module) -> bool:  # noqa: ARG001
    return _matches(name, ATTENTION)


def _head(name: str, layer: nn.Module) -> bool:  # noqa: ARG001
    return _matches(name, HEAD)


def _embedding(name: str, layer: nn.Module) -> bool:
    return isinstance(layer, nn.Embedding) and not _matches(name, NOT_TOKENS)


def _convolution(name: str, layer: nn.Module) -> bool:  # noqa: ARG001
    return isinstance(layer, nn.Conv2d)


def _all(name: str, layer: nn.Module) -> bool:  # noqa: ARG001
    return True


PRESETS: dict[str, Callable[[str, nn.Module], bool]] = {
    "mlp": _mlp,
    "attention": _attention,
    "head": _head,
    "embedding": _embedding,
    "convolution": _convolution,
    "all": _all,
}


def holds_a_matrix(layer: nn.Module) -> bool:
    """Whether the layer has a weight of two axes or more, or a packed one, as quantised layers."""
    if isinstance(layer, NestedLayer):
        return True
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor):
        return weight.ndim >= 2
    return callable(weight) and not isinstance(weight, nn.Module)


def usual(layer: nn.Module) -> nn.Module:
    """A layer of torch's own that does the same, where one does: GPT-2 keeps its weights turned."""
    if type(layer).__name__ != "Conv1D" or not hasattr(layer, "nf"):
        return layer
    turned = layer.get_parameter("weight").detach().T
    with torch.device("meta"):
        made = nn.Linear(turned.shape[1], turned.shape[0])
    made = filled(made, turned, layer.get_parameter("bias"))
    return made.train(layer.training)
