"""A name to a Teacher, loaded when asked for: ``timm/resnet50.a1_in1k``, ``hf/FOLDER``."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from teachers.assembly import assemble, jsonable
from teachers.backbone import Built, Request
from teachers.base import Teacher
from teachers.devices import resolve_device
from teachers.errors import TeacherError, UnknownTeacherError, WeightsError, nearest, one_line
from teachers.factory import call_factory, refit
from teachers.pooling import KINDS
from teachers.saved import Saved, fill, read_saved
from teachers.weights import WORDS


def _timm(request: Request) -> Built:
    from teachers.timm_networks import build  # naming a teacher loads only its own library

    return build(request)


def _torchvision(request: Request) -> Built:
    from teachers.torchvision_networks import build

    return build(request)


def _transformers(request: Request) -> Built:
    from teachers.transformers_networks import build

    return build(request)


FAMILIES: dict[str, Callable[[Request], Built]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "hf": _transformers,
}


def load_teacher(
    name: str,
    *,
    weights: str = "pretrained",
    image_size: int = 0,
    pooling: str = "mean",
    max_length: int = 128,
    layer: str = "",
    options: Mapping[str, Any] = {},
    preprocessing: Mapping[str, Any] = {},
    classes: Sequence[str] = (),
    device: str = "cpu",
    dtype: str = "",
    seed: int = 0,
) -> Teacher:
    """A frozen teacher by name: ``timm/…``, ``torchvision/…``, ``hf/…`` or ``module:factory``.

    ``weights`` is "pretrained", "random" (drawn from ``seed``), a file of tensors, or a folder
    written by ``save_teacher``. With ``classes``, the data's class names, the teacher's own head
    is cut to them by name, or dropped where it does not know them all; ``card.notes`` says so.
    ``image_size`` 0 is what the weights were made for; ``dtype`` "" is what the device is best at
    (CUDA: bfloat16 autocast, else float32). Raises ``TeacherError`` and its kinds.
    """
    device = resolve_device(device)
    if pooling not in KINDS:
        raise TeacherError(f"no pooling named {pooling!r}; known: {', '.join(KINDS)}")
    family, _, short = name.partition("/")
    if family not in FAMILIES or not short:
        if ":" in name:
            if image_size or layer or preprocessing:
                raise TeacherError(f"{name} takes its settings by its own arguments, the options")
            own = call_factory(name, options, seed)
            return refit(own, name, options, weights, classes, device, dtype)
        raise UnknownTeacherError(_unknown(name))
    request = Request(
        name=short,
        weights=weights,
        image_size=image_size,
        pooling=pooling,
        max_length=max_length,
        layer=layer,
        options=options,
        preprocessing=preprocessing,
        seed=seed,
    )
    folder = Path(weights) if weights not in WORDS and Path(weights).is_dir() else None
    saved = read_saved(folder, name) if folder else None
    if saved is not None:
        request = _as_saved(request, saved)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = _built(name, FAMILIES[family], request)
    if saved is not None:
        built = _taught(built, saved, layer, weights)
    elif layer and built.head is not None:
        note = "the teacher's own head was dropped: it reads the last layer"
        built = dataclasses.replace(built, head=None, notes=(*built.notes, note))
    return assemble(
        name,
        built,
        layer=layer,
        options=request.options,
        classes=classes,
        device=device,
        dtype=dtype,
    )


def _built(name: str, family: Callable[[Request], Built], request: Request) -> Built:
    try:
        return family(request)
    except RuntimeError as error:  # shapes that do not go together, found by torch itself
        size = f" at {request.image_size} px" if request.image_size else ""
        raise TeacherError(f"{name} cannot be built{size}: {one_line(error)}") from error


def _as_saved(request: Request, saved: Saved) -> Request:
    """The settings a teacher was saved with, under what is asked for now."""
    return dataclasses.replace(
        request,
        weights="random",  # every tensor is about to be replaced
        image_size=request.image_size or saved.image_size,
        options={**saved.options, **request.options},
    )


def _taught(built: Built, saved: Saved, layer: str, source: str) -> Built:
    """Fill a freshly built network from a saved one; its head stays if it reads this layer.

    Inputs must be prepared as they were when it was taught, or its features mean little.
    """
    now = jsonable(built.preprocessing)
    for key in sorted(now.keys() | saved.preprocessing.keys()):
        was, here = saved.preprocessing.get(key), now.get(key)
        if was != here:
            raise WeightsError(
                f"{source} was taught with preprocessing {key} = {was!r}, now it is {here!r}"
            )
    if built.modality == "text" and built.pooling.kind != saved.pooling:
        raise WeightsError(
            f"{source} was taught with pooling {saved.pooling}, now it is {built.pooling.kind}"
        )
    head = fill(built.network, saved, source)
    if layer == saved.layer:
        return dataclasses.replace(built, head=head, labels=saved.classes)
    note = "the head it was taught with was dropped: it reads another layer"
    return dataclasses.replace(built, head=None, notes=(*built.notes, note))


def _unknown(name: str) -> str:
    """Say how names are built, and guess the family that was left out."""
    family = name.partition("/")[0]
    hint = nearest(family, FAMILIES) if "/" in name else f"; did you mean {'timm/' + name!r}?"
    known = ", ".join(f"{key}/NAME" for key in FAMILIES)
    return f"no teacher named {name!r}{hint} (teachers are {known} or module:factory)"
