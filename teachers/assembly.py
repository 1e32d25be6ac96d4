"""From what a family built to a Teacher: tap, map the head, look at one batch, write the card."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from teachers.backbone import Backbone, Built, Call
from teachers.base import Modality, Prepare, Prepared, TeacherCard
from teachers.devices import resolve_device, resolve_dtype
from teachers.errors import TeacherError, one_line
from teachers.heads import map_head
from teachers.images import read_pixels
from teachers.network import NetworkTeacher
from teachers.pooling import Pooling
from teachers.weights import digest

PROBES = 2


def assemble(
    name: str,
    built: Built,
    *,
    layer: str,
    options: Mapping[str, Any],
    classes: Sequence[str],
    device: str,
    dtype: str,
) -> NetworkTeacher:
    """A frozen teacher on its device, after a look at two probe inputs on the CPU."""
    module = Backbone(built.network, call=built.call, pooling=built.pooling, layer=layer).eval()
    head, named, note = map_head(built.head, built.labels, classes)
    notes = [*built.notes, *([note] if note else [])]
    rows, shape = _look(name, module, built.prepare(_probe(built.modality)))
    if layer:
        notes.append(f"layer {layer}: {built.pooling.describe(shape)}")
    if built.modality == "image":
        # convolutions are fastest so: MobileNetV2 on the CPU twice as fast, nothing slower
        module = module.to(memory_format=torch.channels_last)
    card = TeacherCard(
        name=name,
        modality=built.modality,
        dim=int(rows.shape[1]),
        classes=named,
        weights=digest(module, head),
        preprocessing=jsonable(built.preprocessing),
        layer=layer,
        pooling=built.pooling.kind if built.modality == "text" or layer else "",
        parameters=sum(p.numel() for p in module.parameters()),
        options=dict(options),
        notes=tuple(notes),
    )
    return NetworkTeacher(
        card=card,
        module=module.to(device),
        head=None if head is None else head.to(device),
        prepare=built.prepare,
        device=device,
        dtype=resolve_dtype(dtype, device),
    )


def make_teacher(
    network: nn.Module,
    *,
    name: str,
    prepare: Prepare,
    modality: Modality = "image",
    call: Call = read_pixels,
    pooling: str = "mean",
    preprocessing: Mapping[str, Any] = {},
    head: nn.Linear | None = None,
    labels: Sequence[str] = (),
    classes: Sequence[str] = (),
    device: str = "cpu",
) -> NetworkTeacher:
    """One's own network as a teacher: what a ``module:factory`` returns.

    ``prepare`` makes a dict of CPU tensors of a list of inputs; ``call(network, prepared)`` gives
    (rows, dim), or token sequences or maps to be pooled. ``preprocessing`` is recorded as it is.
    ``labels`` name the head's rows where they are not just ``classes``, to which it is then cut.
    """
    built = Built(
        network=network,
        modality=modality,
        prepare=prepare,
        preprocessing=preprocessing,
        call=call,
        pooling=Pooling(kind=pooling),
        head=head,
        labels=tuple(labels or classes),
    )
    device = resolve_device(device)
    return assemble(name, built, layer="", options={}, classes=classes, device=device, dtype="")


def _probe(modality: Modality) -> list[Any]:
    """Two small inputs that differ, to see what the network makes of them."""
    if modality == "text":
        return ["a", "a longer one"]
    noise = np.random.default_rng(0).integers(0, 256, (PROBES, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def _look(name: str, module: Backbone, prepared: Prepared) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Rows of a first batch, and the shape they were pooled from."""
    try:
        with torch.inference_mode():
            output = module.output(prepared)
            rows = module.pool(output, prepared)
    except TeacherError:
        raise
    except (RuntimeError, ValueError) as error:  # transformers checks sizes itself
        told = {key: tuple(value.shape[1:]) for key, value in prepared.items()}
        raise TeacherError(f"{name} cannot read inputs of {told}: {one_line(error)}") from error
    if rows.shape[0] != PROBES:
        raise TeacherError(
            f"{name} gives {rows.shape[0]} rows for {PROBES} inputs; tap another layer"
        )
    return rows, tuple(output.shape)


def jsonable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Lists for tuples, so that what is read back from JSON is equal."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in sorted(record.items())}
