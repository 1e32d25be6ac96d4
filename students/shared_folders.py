"""The folder of a shared student: where it is, or why it is not there, and its config."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
)

from students.encoders import FAMILIES
from students.errors import CheckpointError, StudentError, first_line

FILE = "student.safetensors"  # as training leaves it
WEIGHTS, CONFIG, README = "model.safetensors", "config.json", "README.md"
PARTS = ("tokenizer", "processor")
KNOWN = ("blueprint", "classes", "preprocessing", "made_by", "record", "weights", "format")
# what a call to the hub raises, whichever library it is made with
OUT_OF_REACH: tuple[type[Exception], ...] = (
    OSError,
    EntryNotFoundError,
    *(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError"),
)


def find_folder(name: str, hub: Mapping[str, Any]) -> Path:
    """Take the local folder of that name, or a snapshot of the hub's."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise StudentError(
            f"{name} is a file; from_pretrained reads a folder or a name on the hub, students.load "
            "a file"
        )
    wanted = [WEIGHTS, CONFIG, README, *(f"{part}/*" for part in PARTS)]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, **hub))
    except HFValidationError as error:
        raise StudentError(
            f"there is no folder {name}, and it is no name on a hub (user/name) either"
        ) from error
    except OUT_OF_REACH as error:
        raise StudentError(
            f"no student {name}: there is no such folder here, and it cannot be fetched from the "
            f"hub ({reason(error)})"
        ) from error


def read_config(folder: Path, *, trust_code: bool) -> dict[str, Any]:
    """Read and check the config; ``trust_code`` as in ``from_pretrained``."""
    path = folder / CONFIG
    if not path.is_file():
        more = "; students.load reads it" if (folder / FILE).is_file() else ""
        raise StudentError(f"{folder} holds no student that was shared: no {CONFIG}{more}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} describes no student")
    missing = sorted(set(KNOWN) - set(config))
    if missing:
        raise CheckpointError(f"{path} describes no student: no {missing[0]!r}")
    blueprint = config["blueprint"]
    name = str(blueprint.get("name", "")) if isinstance(blueprint, dict) else ""
    if ":" in name and name.partition("/")[0] not in FAMILIES and not trust_code:
        raise StudentError(
            f"{folder} is built by code of its own, {name}, which would be run; if it is to be "
            "trusted, say from_pretrained(…, trust_code=True)"
        )
    return config


def reason(error: Exception) -> str:
    """Why the hub did not answer, in a few words."""
    if isinstance(error, OfflineModeIsEnabled):
        return "offline, because HF_HUB_OFFLINE is set"
    if isinstance(error, EntryNotFoundError):
        return "it is not in the cache, and the hub is out of reach or does not have it"
    return first_line(error)
