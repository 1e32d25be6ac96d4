"""Keeping the way inputs are prepared beside a student, and doing it again without the teacher.

Images: the recorded plain values are enough (timm's and torchvision's transforms). Text, and
transformers' own image processors: their files are kept in the student's folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import StageError
from teachers import Prepare

TOKENIZER, PROCESSOR = "tokenizer", "processor"


def keep_prepare(folder: Path, prepare: Prepare) -> None:
    """Write what cannot be built again from plain values: a tokenizer, an image processor."""
    for name in (TOKENIZER, PROCESSOR):
        part = getattr(prepare, name, None)
        if part is not None:
            part.save_pretrained(str(folder / name))


def load_prepare(folder: Path, modality: str, preprocessing: Mapping[str, Any]) -> Prepare:
    """Build what ``keep_prepare`` kept; ``StageError`` where that cannot be done."""
    by = preprocessing.get("made_by", "")
    if modality == "text" or (by == "transformers" and (folder / PROCESSOR).is_dir()):
        return _transformers(folder, modality, preprocessing)
    if by in _TRANSFORMS:
        try:
            return _TRANSFORMS[by](preprocessing)
        except (KeyError, TypeError, ValueError) as error:
            raise StageError(
                f"the card of the student in {folder} does not say how images are prepared "
                f"({error}); train the student again"
            ) from error
    raise StageError(
        f"the student in {folder} was taught with preprocessing of the user's own; "
        f"use students.load_student in Python and prepare the inputs there"
    )


def _timm(preprocessing: Mapping[str, Any]) -> Prepare:
    from timm.data import create_transform

    from teachers.images import PrepareImages

    names = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
    values = {name: preprocessing[name] for name in names}
    values |= {name: tuple(values[name]) for name in ("input_size", "mean", "std")}
    return PrepareImages(create_transform(**values, is_training=False))


def _torchvision(preprocessing: Mapping[str, Any]) -> Prepare:
    from teachers.images import PrepareImages
    from teachers.torchvision_networks import Transform

    names = ("resize_size", "crop_size", "mean", "std", "interpolation")
    values = {name: preprocessing[name] for name in names}
    values |= {name: tuple(values[name]) for name in ("mean", "std")}
    return PrepareImages(Transform(**values))


_TRANSFORMS = {"timm": _timm, "torchvision": _torchvision}


def _transformers(folder: Path, modality: str, preprocessing: Mapping[str, Any]) -> Prepare:
    from transformers import AutoImageProcessor, AutoTokenizer

    from teachers.text import PrepareTexts
    from teachers.transformers_networks import PrepareProcessed

    kept = folder / (TOKENIZER if modality == "text" else PROCESSOR)
    if not kept.is_dir():
        raise StageError(f"{kept} is missing, without which the student reads nothing; train again")
    try:
        if modality == "image":
            return PrepareProcessed(AutoImageProcessor.from_pretrained(str(kept)))
        return PrepareTexts(
            AutoTokenizer.from_pretrained(str(kept)), int(preprocessing["max_length"])
        )
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StageError(f"{kept} cannot be read ({reason}); train the student again") from error
