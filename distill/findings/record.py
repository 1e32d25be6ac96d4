"""Small frozen records that go to JSON and back."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args, get_origin, get_type_hints

from distill.whole import whole

NO_JSON = (json.JSONDecodeError, UnicodeDecodeError)  # what reading other bytes as JSON raises


class FindingError(ValueError):
    """A file does not hold the finding it should."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A frozen record that goes to JSON and back."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild the record; unknown or missing keys raise ``FindingError``."""
        hints = get_type_hints(cls)
        unknown = sorted(set(data) - set(hints))
        if unknown:
            raise FindingError(f"{cls.__name__} has no {unknown[0]!r}")
        try:
            return cls(**{name: _revive(hints[name], value) for name, value in data.items()})
        except TypeError as error:
            raise FindingError(f"{cls.__name__}: {error}") from error

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as scratch:
            text = json.dumps(self.to_json(), indent=2, sort_keys=True)
            scratch.write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record back; ``FindingError`` names the file that cannot be read."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (*NO_JSON, FindingError, AttributeError, TypeError) as error:
            raise FindingError(f"{path} does not hold a {cls.__name__}: {error}") from error


def _revive(hint: Any, value: Any) -> Any:
    """JSON knows lists and dicts; records hold tuples and records."""
    if value is None:
        return None
    arguments = get_args(hint)
    record = next(
        (t for t in (hint, *arguments) if isinstance(t, type) and issubclass(t, Record)), None
    )
    if get_origin(hint) is tuple:
        inner = arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
        return tuple(_revive(inner, item) if inner else item for item in value)
    if record is not None:
        return record.from_json(value)
    return value
