"""Whether a teacher's pretrained weights, or a hub's data set, are on this machine already.

Knows where timm, torchvision, transformers and datasets keep what they fetched; fetches nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Cached:
    """What is needed, and the file or folder it was found in."""

    wanted: str
    found: Path | None


def teacher_weights(name: str) -> Cached:
    """Look for the weights of ``timm/…``, ``torchvision/…`` or ``hf/…``; ``LookupError`` else."""
    family, _, rest = name.partition("/")
    if family not in FAMILIES or not rest:
        raise LookupError(f"{name} is no name of {', '.join(FAMILIES)}")
    return FAMILIES[family](rest)


def _timm(name: str) -> Cached:
    import timm
    from timm.models import get_pretrained_cfg

    if not timm.is_model(name):
        raise LookupError(f"timm has no network named {name}; names: timm.list_models()")
    config: Any = get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        raise LookupError(f"timm has no pretrained weights for {name}; use --random-init")
    if config.file:
        return Cached(str(config.file), _there(Path(config.file)))
    if config.hf_hub_id:
        # timm writes the tag into the name of the repository it belongs to
        repository = str(config.hf_hub_id)
        if repository.endswith("/"):
            repository += f"{config.architecture}.{config.tag}"
        files = (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHTS
        return Cached(repository, in_hub_cache(repository, files))
    return Cached(str(config.url), _torch_hub_file(str(config.url)))


def _torchvision(name: str) -> Cached:
    from torchvision import models

    try:
        best: Any = models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError) as error:
        raise LookupError(f"torchvision has no network with weights named {name}") from error
    return Cached(str(best), _torch_hub_file(best.url))


def _transformers(name: str) -> Cached:
    folder = Path(name).expanduser()
    if folder.is_dir():
        held = [folder / file for file in (*WEIGHTS, *SHARDED)]
        return Cached(name, next((file for file in held if file.is_file()), None))
    return Cached(name, in_hub_cache(name, (*WEIGHTS, *SHARDED)))


def in_hub_cache(repository: str, files: tuple[str, ...]) -> Path | None:
    """The first of a repository's files that the Hugging Face cache holds."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in files:
        try:
            found = try_to_load_from_cache(repository, file)
        except HFValidationError as error:
            raise LookupError(f"{repository} is no folder here and no name of a hub") from error
        if isinstance(found, str):
            return Path(found)
    return None


def hub_folder() -> Path:
    """Where Hugging Face libraries keep what they fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def dataset_folder(name: str) -> Path | None:
    """Where a hub data set's files or its prepared tables lie, if they do."""
    from huggingface_hub import constants

    owner_and_name = name.partition(":")[0]
    fetched = hub_folder() / f"datasets--{owner_and_name.replace('/', '--')}"
    prepared = Path(constants.HF_HOME) / "datasets" / owner_and_name.replace("/", "___")
    return next((place for place in (prepared, fetched) if place.is_dir()), None)


def _torch_hub_file(url: str) -> Path | None:
    import torch

    return _there(Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name)


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


FAMILIES = {"timm": _timm, "torchvision": _torchvision, "hf": _transformers}
