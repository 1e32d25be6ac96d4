"""What an exported student says of itself, inside the file: the same in every format.

Each entry is a text under its name; all but ``student``, ``modality`` and ``precision`` are JSON.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from distill.errors import StageError
from distill.shipping.graphs import Shipped

FORMAT = 1
TEXTS = ("student", "modality", "precision")
PARTS = ("tokenizer", "processor")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a user of the file has to know, and where the student came from."""

    student: str
    modality: str  # "image" or "text"
    classes: tuple[str, ...]  # of the logits
    embedding: int  # how many numbers the output of that name has
    widths: tuple[int, ...]  # of the outputs logits_<width>, which read its first numbers
    preprocessing: Mapping[str, Any]  # how inputs become what the network reads
    files: Mapping[str, str]  # a tokenizer's or image processor's, by their paths
    made_by: Mapping[str, Any]
    precision: str = "float32"  # or "int8"
    validation: Mapping[str, Any] = field(default_factory=dict)  # what int8 costs in accuracy
    format: int = FORMAT

    def to_texts(self) -> dict[str, str]:
        """Every fact as a text."""
        return {
            entry.name: _text(entry.name, getattr(self, entry.name))
            for entry in sorted(fields(self), key=lambda entry: entry.name)
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], source: Path) -> "Facts":
        """Read the facts of ``source`` back; ``StageError`` where they are not those of one."""
        try:
            values: dict[str, Any] = {
                entry.name: texts[entry.name]
                if entry.name in TEXTS
                else json.loads(texts[entry.name])
                for entry in fields(cls)
            }
        except (KeyError, ValueError) as error:
            raise StageError(
                f"{source} was not exported by this program: nothing in it says what its classes "
                "and inputs are"
            ) from error
        if values["format"] != FORMAT:
            raise StageError(
                f"{source} has format {values['format']} and this version reads {FORMAT}; export "
                "the student again"
            )
        return cls(**{**values, **{name: tuple(values[name]) for name in ("classes", "widths")}})

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """Lay the files into a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for path, text in self.files.items():
                place = (folder / path).resolve()
                if not place.is_relative_to(folder.resolve()):
                    raise StageError(f"{path!r} is no path inside a student's folder")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8")
            yield folder


def facts_of(student: Shipped, name: str) -> Facts:
    """Collect the facts of a student called ``name``."""
    return Facts(
        student=name,
        modality=student.modality,
        classes=student.classes,
        embedding=student.dim_out,
        widths=tuple(map(int, student.prefix)),
        preprocessing=student.preprocessing,
        files=_files(student.folder),
        made_by=student.made_by,
    )


def _files(folder: Path | None) -> dict[str, str]:
    """Read what lies in the folders of tokenizer and processor, as far as it is text."""
    found = {}
    for part in PARTS if folder else ():
        for path in sorted((Path(str(folder)) / part).rglob("*")):
            if path.is_file():
                try:
                    text = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:  # a model of SentencePiece: tokenizer.json has the same
                    continue
                found[path.relative_to(Path(str(folder))).as_posix()] = text
    return found


def _text(name: str, value: Any) -> str:
    plain = dict(value) if isinstance(value, Mapping) else value
    return str(value) if name in TEXTS else json.dumps(plain, sort_keys=True, ensure_ascii=False)
