"""Tiny networks of the families that surgery knows, with random weights, and batches for them."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 32,
}


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return _made(lambda: BertForSequenceClassification(BertConfig(**TEXT, num_labels=3)))


def bert_for_tokens() -> nn.Module:
    """Its head is tied to its embeddings."""
    from transformers import BertConfig, BertForMaskedLM

    return _made(lambda: BertForMaskedLM(BertConfig(**TEXT)))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return _made(lambda: LlamaForCausalLM(LlamaConfig(**TEXT, num_key_value_heads=1)))


def neox() -> nn.Module:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return _made(lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**TEXT)))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 32}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return _made(lambda: GPT2LMHeadModel(GPT2Config(**settings, **ends)))


def deit() -> nn.Module:
    import timm

    settings = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return _made(
        lambda: timm.create_model("deit_tiny_patch16_224", **settings, mlp_ratio=1.5, num_classes=5)
    )


def mobilenet() -> nn.Module:
    import timm

    return _made(lambda: timm.create_model("mobilenetv2_035", num_classes=5))


def timm_resnet() -> nn.Module:
    import timm

    settings = {"channels": [8, 8, 8, 8], "stem_width": 8, "num_classes": 5}
    return _made(lambda: timm.create_model("resnet26", **settings))


def torchvision_resnet() -> nn.Module:
    from torchvision.models import ResNet
    from torchvision.models.resnet import Bottleneck

    return _made(lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5, width_per_group=8))


def torchvision_mobilenet() -> nn.Module:
    from torchvision.models import mobilenet_v3_small

    return _made(lambda: mobilenet_v3_small(num_classes=5, width_mult=0.25))


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 24, "num_classes": 5}

    def build() -> nn.Module:
        network: nn.Module = VisionTransformer(image_size=16, patch_size=4, **sizes)
        nn.init.normal_(network.get_parameter("heads.head.weight"))  # 0 at first
        return network

    return _made(build)


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    made.__name__: made
    for made in (
        *(bert, llama, neox, gpt2, deit, mobilenet),
        *(timm_resnet, torchvision_resnet, torchvision_mobilenet, torchvision_vit),
    )
}
TEXTS = ("bert", "bert_for_tokens", "llama", "neox", "gpt2")


def texts(rows: int = 3, *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(40, (rows, 6), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def images(rows: int = 3, *, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(seed))


def batch_for(family: str, *, seed: int = 0) -> Any:
    if family in TEXTS:
        return texts(seed=seed)
    return images(size=16 if family in ("deit", "torchvision_vit") else 32, seed=seed)


def answer(network: nn.Module, batch: Any) -> Tensor:
    """Its logits in evaluation."""
    with torch.no_grad():
        found = network(**batch) if isinstance(batch, dict) else network(batch)
    logits: Tensor = found if isinstance(found, Tensor) else found.logits
    return logits


_KEPT: dict[Any, nn.Module] = {}


def _made(build: Callable[[], nn.Module]) -> nn.Module:
    """A copy of the network of seed 0, in evaluation; it is built once."""
    key = build.__code__
    if key not in _KEPT:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _KEPT[key] = build().eval()
    return copy.deepcopy(_KEPT[key])
