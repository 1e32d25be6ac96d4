"""The student ``auto``: the costliest network of a small family that a budget of work allows.

Images: ``resnet10t`` with narrower stages, then ``resnet18``. Texts: two layers of BERT, and where
the budget is too small for attention, static embeddings. Multiply-adds are counted by torch, half
its FLOPs, in one pass of one input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from students.blueprint import Blueprint
from students.counting import counting
from students.encoders import Encoder, build
from students.errors import StudentError

AUTO = "auto"
_IMAGE_SIZE = 224  # where neither the data nor the settings say one
_TOKENS_COUNTED = 8  # of a vocabulary: looking a token up costs no product, however many there are


@final
@dataclass(frozen=True, kw_only=True)
class _Candidate:
    name: str
    options: dict[str, Any]


def choose_student(
    blueprint: Blueprint,
    *,
    teacher_multiply_adds: int,
    budget: float,
    tokens: int = 0,
    classes: int = 0,
) -> Blueprint:
    """Name the network and options of the student ``auto`` in its blueprint.

    It takes at most ``budget`` of the teacher's multiply-adds for one input, with its neck and a
    head of ``classes``; texts are of ``tokens`` tokens, as the teacher's were. The same arguments
    give the same network. ``StudentError`` where not even the smallest is small enough.
    """
    if not budget > 0:
        raise StudentError(f"the budget of a student must be above 0, got {budget}")
    limit = int(budget * teacher_multiply_adds)
    families = [_static(), _bert()] if blueprint.modality == "text" else [_resnets()]
    # the costliest that fits of the richest family of which any does
    for family in reversed(families):
        chosen = _largest(family, blueprint, limit, tokens=tokens, classes=classes)
        if chosen is not None:
            return chosen
    least = _with(blueprint, families[0][0])
    cost = multiply_adds(least, tokens=tokens, classes=classes)
    raise StudentError(
        f"a budget of {budget:g} allows {limit:,} of the teacher's {teacher_multiply_adds:,} "
        f"multiply-adds, and the smallest student, {least.name}, takes {cost:,}; allow "
        f"{_rounded_up(cost / max(1, teacher_multiply_adds)):g}, or name a student"
    )


def multiply_adds(blueprint: Blueprint, *, tokens: int = 0, classes: int = 0) -> int:
    """Multiply-adds of one input through a student and a head of ``classes``."""
    size = blueprint.image_size or _IMAGE_SIZE
    counted = replace(blueprint, image_size=size, vocabulary=_TOKENS_COUNTED, padding_id=0)
    if blueprint.modality == "text":
        ids = torch.ones(1, max(1, tokens), dtype=torch.int64)
        return _counted(build(counted), {"input_ids": ids, "attention_mask": ids}, classes)
    with torch.device("meta"):  # shapes without numbers: as good for counting, and soon there
        pixels = torch.empty(1, counted.in_chans, size, size)
        return _counted(build(counted), {"pixel_values": pixels}, classes)


def _counted(encoder: Encoder, prepared: dict[str, Tensor], classes: int) -> int:
    encoder.eval()
    with torch.no_grad(), counting() as counter:
        encoder(prepared)
    return int(counter.get_total_flops() // 2) + encoder.dim_out * classes


def _largest(
    family: Sequence[_Candidate], blueprint: Blueprint, limit: int, *, tokens: int, classes: int
) -> Blueprint | None:
    """The last of a family, of rising cost, that takes no more than ``limit``; None if none."""
    fits, too_large = -1, len(family)
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        tried = _with(blueprint, family[middle])
        if multiply_adds(tried, tokens=tokens, classes=classes) <= limit:
            fits = middle
        else:
            too_large = middle
    return None if fits < 0 else _with(blueprint, family[fits])


def _with(blueprint: Blueprint, candidate: _Candidate) -> Blueprint:
    return replace(blueprint, name=candidate.name, options=candidate.options)


def _resnets() -> list[_Candidate]:
    """Widths of the first stage in steps of 4, then the whole ``resnet18`` and wider ones."""

    def channels(first: int) -> list[int]:
        return [first, 2 * first, 4 * first, 8 * first]

    # timm splits the stem's width in quarters
    narrow = [
        _Candidate(
            name="timm/resnet10t",
            options={"channels": channels(width), "stem_width": max(4, width // 8 * 4)},
        )
        for width in range(4, 65, 4)
    ]
    wide = [
        _Candidate(name="timm/resnet18", options={"channels": channels(width)})
        for width in range(64, 129, 16)
    ]
    return narrow + wide


def _bert() -> list[_Candidate]:
    """Two layers, heads of 32 numbers."""
    return [
        _Candidate(
            name="hf/bert",
            options={
                "num_hidden_layers": 2,
                "hidden_size": width,
                "num_attention_heads": width // 32,
                "intermediate_size": 4 * width,
            },
        )
        for width in range(32, 385, 32)
    ]


def _static() -> list[_Candidate]:
    return [_Candidate(name=f"static/{2**power}", options={}) for power in range(4, 10)]


def _rounded_up(share: float) -> float:
    """Two digits of a share, and never less than it."""
    digits = f"{share:.1e}"
    return float(digits) if float(digits) >= share else float(f"{share * 1.05:.1e}")
