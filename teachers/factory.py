"""Teachers of one's own: ``module:factory`` is called, and checked, and given its weights."""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from teachers.base import Teacher
from teachers.devices import resolve_dtype
from teachers.errors import TeacherError, UnknownTeacherError, WeightsError, one_line
from teachers.heads import map_head
from teachers.network import NetworkTeacher
from teachers.saved import bare, fill, read_saved
from teachers.weights import WORDS, digest, load_state, read_state


def call_factory(name: str, options: Mapping[str, Any], seed: int) -> Teacher:
    """``factory(**options)``, which must return a ``Teacher``; torch is seeded around it."""
    module_name, _, factory_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownTeacherError(
            f"no teacher named {name!r}: {one_line(error)}; its folder must be on PYTHONPATH"
        ) from error
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise TeacherError(f"{name} does not take these options: {one_line(error)}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = factory(**options)
    if not isinstance(teacher, Teacher):
        raise TeacherError(f"{name} returned {type(teacher).__name__}, which is not a Teacher")
    return teacher


def refit(
    teacher: Teacher,
    name: str,
    options: Mapping[str, Any],
    weights: str,
    classes: Sequence[str],
    device: str,
    dtype: str,
) -> Teacher:
    """The same teacher on this device, with weights from a file or a saved folder, head mapped.

    That is possible with what ``make_teacher`` gives; any other class stays as it is.
    """
    if not isinstance(teacher, NetworkTeacher):
        if weights in WORDS:
            return teacher
        raise WeightsError(f"{name} must load {weights} itself, or return what make_teacher gives")
    network, head, labels = bare(teacher.module), teacher.head, teacher.card.classes
    if weights not in WORDS and Path(weights).is_dir():
        saved = read_saved(Path(weights), name)
        head, labels = fill(network, saved, weights), saved.classes
    elif weights not in WORDS:
        load_state(network, read_state(Path(weights)), source=weights)
    head, named, note = map_head(head, labels, classes)
    card = dataclasses.replace(
        teacher.card,
        name=name,
        options=dict(options),
        classes=named,
        weights=digest(teacher.module, head),
        notes=(*teacher.card.notes, note) if note else teacher.card.notes,
    )
    return dataclasses.replace(
        teacher,
        card=card,
        module=teacher.module.to(device),
        head=None if head is None else head.to(device),
        device=device,
        dtype=resolve_dtype(dtype, device),
    )
