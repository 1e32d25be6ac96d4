"""What was measured of a student, as its run left it beside its file: plain values for a card."""

import json
from pathlib import Path
from typing import Any

RECORD = "student.json"  # of the student's folder
EXTRACTED = "extracted.json"  # of the run's: which teacher, which data


def record_beside(file: Path) -> dict[str, Any]:
    """Its scores, and of its run the names of ``teacher`` and ``data`` and what was noted of them.

    Empty for a student that was taken out of its run.
    """
    record = _read(file.parent / RECORD)
    run = _read(file.parent.parent.parent / EXTRACTED) if record else {}
    about = {
        "teacher": run.get("teacher", ""),
        "data": run.get("dataset", ""),
        "data_note": run.get("data_note", ""),
        "run_notes": list(run.get("notes", ())),
    }
    record.pop("made_from", None)
    return {**about, **record} if record else {}


def _read(path: Path) -> dict[str, Any]:
    """Read a record; what is missing or damaged says nothing, and the weights do not need it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
