"""Findings of a study kept one file each, so that whatever ends it, it goes on where it was."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds; made first where it is not there. Written whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(make(), indent=1, sort_keys=True) + "\n")
        os.replace(partial, path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found
