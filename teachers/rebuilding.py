"""Preparing inputs from what was recorded, without the teacher: what a shipped student needs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from teachers.base import Prepare
from teachers.errors import TeacherError

Recorded = Mapping[str, Any]
TOKENIZER, PROCESSOR = "tokenizer", "processor"


def save_prepare(folder: Path, prepare: Prepare) -> None:
    """Keep what plain values cannot say: a tokenizer, or transformers' own image processor."""
    for name in (TOKENIZER, PROCESSOR):
        part = getattr(prepare, name, None)
        if part is not None:
            part.save_pretrained(str(folder / name))


def rebuild_prepare(folder: Path, modality: str, recorded: Recorded) -> Prepare:
    """The ``prepare`` of the teacher whose ``preprocessing`` was recorded.

    ``folder`` is where ``save_prepare`` put its files. Raises ``TeacherError`` where a file is
    missing or cannot be read, and for preprocessing of the user's own, which nothing recorded.
    """
    by = recorded.get("made_by", "")
    if modality == "text" or by == "transformers":
        return _transformers(folder, modality, recorded)
    if by not in _FAMILIES:
        raise TeacherError(
            f"what is kept in {folder} was taught with preprocessing of the user's own; prepare "
            "the inputs in Python and use students.load_student there"
        )
    try:
        return _FAMILIES[by](recorded)
    except (KeyError, TypeError, ValueError) as error:
        raise TeacherError(
            f"the card in {folder} does not say how images are prepared ({error}); "
            "train the student again"
        ) from error


def resized(recorded: Recorded, image_size: int) -> tuple[dict[str, Any], Prepare]:
    """The same preprocessing at another size of images; ``TeacherError`` where that is unknown."""
    by = recorded.get("made_by", "")
    if by not in _FAMILIES:
        raise TeacherError(
            f"images prepared by {by or 'code of your own'} cannot be made {image_size} px wide; "
            "leave the size out"
        )
    changes: dict[str, Any] = {"image_size": image_size}
    if by == "timm":
        changes["input_size"] = [3, image_size, image_size]
    else:
        share = recorded["resize_size"] / recorded["crop_size"]
        changes |= {"crop_size": image_size, "resize_size": round(image_size * share)}
    found = {**recorded, **changes}
    return found, _FAMILIES[by](found)


def _timm(recorded: Recorded) -> Prepare:
    from teachers.timm_networks import CONFIG, prepare_from

    config = {name: recorded[name] for name in CONFIG}
    return prepare_from(
        config | {name: tuple(config[name]) for name in ("input_size", "mean", "std")}
    )


def _torchvision(recorded: Recorded) -> Prepare:
    from teachers.torchvision_networks import Preset, prepare_from

    names = ("resize_size", "crop_size", "mean", "std", "interpolation")
    values = {name: recorded[name] for name in names}
    return prepare_from(Preset(**values | {n: tuple(values[n]) for n in ("mean", "std")}))


def _transformers(folder: Path, modality: str, recorded: Recorded) -> Prepare:
    from transformers import AutoImageProcessor, AutoTokenizer

    from teachers.text import PrepareTexts
    from teachers.transformers_networks import PrepareProcessed

    kept = folder / (TOKENIZER if modality == "text" else PROCESSOR)
    if not kept.is_dir():
        raise TeacherError(f"{kept} is missing, without which nothing can be read; train again")
    try:
        if modality == "image":
            return PrepareProcessed(AutoImageProcessor.from_pretrained(str(kept)))
        tokenizer = AutoTokenizer.from_pretrained(str(kept))
        return PrepareTexts(tokenizer, int(recorded["max_length"]))
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TeacherError(f"{kept} cannot be read ({reason}); train the student again") from error


_FAMILIES: dict[str, Callable[[Recorded], Prepare]] = {
    "timm": _timm,
    "torchvision": _torchvision,
}
