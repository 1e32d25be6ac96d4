"""A training step in bfloat16 on this CPU, against float32. Prints JSON.

Networks of random weights, the loss and gradients of a step as ``distill`` takes them. Beside both
stands plain autocast, whose fused attention has a slow gradient in bfloat16. There are bars only
where the CPU multiplies bfloat16; all take turns, and the best round of each counts. Attention is
timed alone too, its gradient included, by the number of tokens.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import BertConfig, BertModel

from benchmarks.turns import best_of
from distill.allocator import memory_kept
from students.precision import autocast

CPU = torch.device("cpu")
ROUNDS, CLASSES = 9, 100
TOKENS = (12, 65, 128, 197, 512)
WAYS: dict[str, Callable[[], Any]] = {
    "float32": partial(autocast, torch.float32, CPU),
    "bfloat16": partial(autocast, torch.bfloat16, CPU),
    "plain autocast": partial(torch.autocast, "cpu", torch.bfloat16),
}


class Encoder(nn.Module):
    """A BERT of MiniLM's size, its tokens pooled by their mean, and a head."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
        )
        self.encoder = BertModel(config)
        self.head = nn.Linear(384, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.encoder(tokens).last_hidden_state.mean(dim=1))
        return logits


def step(network: nn.Module, inputs: Tensor, labels: Tensor, way: Callable[[], Any]) -> None:
    """One loss, and its gradients."""
    with way():
        logits = network(inputs)
    nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
    network.zero_grad()


def attention(tokens: int, dtype: torch.dtype, backend: SDPBackend) -> None:
    """Attention of 32 rows, four heads of 32 numbers, and its gradient."""
    query, key, value = (
        torch.randn(32, 4, tokens, 32, dtype=dtype, requires_grad=True) for _ in range(3)
    )
    with sdpa_kernel(backend):
        found = nn.functional.scaled_dot_product_attention(query, key, value)
    found.sum().backward()  # type: ignore[no-untyped-call]


def attentions() -> dict[str, dict[str, float]]:
    """Milliseconds of each number of tokens, in both types and both forms."""
    forms = {
        f"{str(dtype).removeprefix('torch.')}, {name}": (dtype, backend)
        for dtype in (torch.float32, torch.bfloat16)
        for name, backend in (("fused", SDPBackend.FLASH_ATTENTION), ("products", SDPBackend.MATH))
    }
    found = {}
    for tokens in TOKENS:
        rivals = {name: partial(attention, tokens, *form) for name, form in forms.items()}
        best, _ = best_of(rivals, ROUNDS)
        found[f"{tokens} tokens"] = {name: round(1e3 * took, 2) for name, took in best.items()}
    return found


def cases() -> dict[str, tuple[nn.Module, Tensor]]:
    """Networks and a batch of 32 for each."""
    generator = torch.Generator().manual_seed(0)
    small: dict[str, Any] = {"channels": [16, 32, 64, 128], "stem_width": 16}
    pixels = torch.randn(32, 3, 128, 128, generator=generator)
    images = torch.randn(32, 3, 64, 64, generator=generator)
    last = torch.channels_last
    return {
        "DeiT-Tiny, 128 px": (
            timm.create_model("deit_tiny_patch16_224", num_classes=CLASSES, img_size=128),
            pixels,
        ),
        "MiniLM, 16 tokens": (Encoder(), torch.randint(30000, (32, 16), generator=generator)),
        "ResNet-10t of 330,000 numbers, 64 px": (
            timm.create_model("resnet10t", num_classes=CLASSES, **small).to(memory_format=last),
            images.to(memory_format=last),
        ),
    }


@memory_kept()
def main() -> None:
    """All networks, one thread."""
    torch.set_num_threads(1)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    milliseconds = {}
    for name, (network, inputs) in cases().items():
        labels = torch.randint(CLASSES, (len(inputs),))
        rivals = {way: partial(step, network, inputs, labels, make) for way, make in WAYS.items()}
        best, _ = best_of(rivals, ROUNDS)
        milliseconds[name] = {way: round(1e3 * seconds, 1) for way, seconds in best.items()}
    bars = [
        {
            "what": f"step in bfloat16 / float32, {name} (time)",
            "measured": round(found["bfloat16"] / found["float32"], 3),
            "bar": 1.0,
            "better": "less",
        }
        for name, found in milliseconds.items()
        if fast
    ]
    report = {
        "bars": bars,
        "multiplies bfloat16": fast,
        "milliseconds a step": milliseconds,
        "milliseconds of attention": attentions(),
        "versions": {"torch": torch.__version__},
    }
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
