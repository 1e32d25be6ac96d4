"""``predict``: classes from a student, for image files, folders of them, lines of text, or tables.

Inputs are opened a batch at a time: of images no more than that is in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from distill.allocator import memory_kept
from distill.config import DataConfig
from distill.datasets import TABLES, BadInputError, open_table
from distill.datasets.folder import images_below
from distill.datasets.images import open_image
from distill.errors import StageError
from distill.findings import Prediction, Predictions
from distill.predictor import Predictor, load_predictor
from distill.progress import Progress

Open = Callable[[], Any]
Closed = tuple[str, Open]  # what the user calls an input, and what opens it


@final
@dataclass
class _Bad:
    """Inputs that cannot be read: refused, or left out, said and counted."""

    skip: bool
    progress: Progress
    skipped: int = 0

    @contextmanager
    def skipping(self) -> Iterator[None]:
        try:
            yield
        except BadInputError as error:
            if not self.skip:
                raise
            self.skipped += 1
            self.progress.say(f"skipped: {error.problem}")


@memory_kept()
def predict(
    folder: Path,
    inputs: Sequence[str],
    *,
    batch_size: int,
    device: str,
    skip_bad: bool,
    progress: Progress,
    columns: DataConfig | None = None,
    budget: float | None = None,
) -> Predictions:
    """Say the likeliest class of each input, in their order.

    For a student that reads images an input is a file, or a folder whose image files are taken
    in the order of their paths. For one that reads text it is a line, or the name of a file with
    a line for each; a pair of texts is one line with a tab between them. Blank lines are left
    out, which is said. Of a CSV, JSON or parquet file the rows are inputs; ``columns`` may name
    those to read. ``skip_bad`` leaves out what cannot be read and says so; otherwise that is a
    ``BadInputError`` that names it. ``StageError`` where there is nothing to predict. ``budget`` is
    that of a nested network.
    """
    predictor = load_predictor(folder, device=device, budget=budget)
    bad = _Bad(skip_bad, progress)
    if batch_size < 1:
        raise StageError(f"inputs are answered 1 or more at a time, got {batch_size}")
    closed: list[Closed] = []
    for name in inputs:
        if (path := _table(name)) is not None:
            closed += _rows(path, predictor, columns or DataConfig(), bad)
        elif predictor.student.modality == "image":
            closed += _image_files(name)
        else:
            closed += _lines(name, predictor, bad)
    if not closed and not bad.skipped:
        raise StageError(f"nothing to predict in {' '.join(inputs) or 'no input'}")
    found: list[Prediction] = []
    with progress.task("predict", total=len(closed), unit="inputs") as advance:
        for start in range(0, len(closed), batch_size):
            block = closed[start : start + batch_size]
            found += _answers(predictor, list(_opened(block, bad)), batch_size)
            advance(len(block))
    if not found:
        raise StageError(f"no input could be read; skipped: {bad.skipped}")
    return Predictions(student=predictor.name, predictions=tuple(found))


def _answers(
    predictor: Predictor, block: list[tuple[str, Any]], batch_size: int
) -> list[Prediction]:
    if not block:
        return []
    labels, shares = predictor.predict([value for _, value in block], batch_size=batch_size)
    return [
        Prediction(input=_told(name), label=label, probability=float(row.max()))
        for (name, _), label, row in zip(block, labels, shares, strict=True)
    ]


def _told(name: str) -> str:
    """The name as every file and terminal can hold it: one may be no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _image_files(name: str) -> Iterator[Closed]:
    path = Path(name)
    if path.is_dir():
        files = sorted(path / name for name, _ in images_below(path))
        yield from ((str(file), partial(open_image, file, str(file))) for file in files)
    elif path.is_file():
        yield name, partial(open_image, path, name)
    else:
        raise StageError(f"there is no image file or folder {name}; the student reads images")


def _table(name: str) -> Path | None:
    """The file of that name if it is a table; a text may be too long, or too odd, for a name."""
    path = Path(name)
    try:
        return path if path.suffix.lower() in TABLES and path.is_file() else None
    except (OSError, ValueError):
        return None


def _rows(path: Path, predictor: Predictor, columns: DataConfig, bad: _Bad) -> Iterator[Closed]:
    """Read the rows of a table: texts at once, under their own words; images when their turn is."""
    table, student = open_table(path, columns), predictor.student
    if table.columns.modality != student.modality:
        raise StageError(
            f"{path} holds {table.columns.modality}s and the student reads {student.modality}s"
        )
    pairs = bool(student.preprocessing.get("pairs"))
    if student.modality == "text" and pairs != (len(table.columns.inputs) > 1):
        read = " and ".join(map(repr, table.columns.inputs))
        raise StageError(
            f"the student reads {'pairs of texts' if pairs else 'single texts'}, not {read} of "
            f"{path}; name other columns with --text-columns"
        )
    for row in range(len(table)):
        if student.modality == "image":
            yield table.where(row), partial(table.read, row)
            continue
        with bad.skipping():
            text = table.read(row)
            yield text if isinstance(text, str) else "\t".join(text), partial(_itself, text)


def _lines(text: str, predictor: Predictor, bad: _Bad) -> Iterator[Closed]:
    pairs = bool(predictor.student.preprocessing.get("pairs"))
    lines: list[str] = []
    with bad.skipping():
        lines = _lines_of(text)
    there = [line for line in lines if line.strip()]
    if len(there) < len(lines):
        of = f" of {text}" if text.strip() else ""
        bad.progress.say(f"skipped: blank lines{of}, {len(lines) - len(there)} in all")
    for line in there:
        with bad.skipping():
            yield line, partial(_itself, _one_or_two(line, pairs=pairs))


def _itself(text: Any) -> Any:
    return text


def _lines_of(text: str) -> list[str]:
    """Read the lines of the file of that name; otherwise the text is the line.

    ``StageError`` for a folder, and for what is called as files are and is none: one sentence more
    would be no answer to a name that was mistyped.
    """
    path = Path(text)
    try:
        folder, file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # a text that is too long, or too odd, to be a file's name
        return [text]
    if folder and text.strip():
        raise StageError(f"{text} is a folder; the student reads texts: name a file of lines")
    if file:
        try:
            with path.open(encoding="utf-8-sig") as lines:  # a text may hold other separators
                return [line.removesuffix("\n") for line in lines]
        except UnicodeDecodeError as error:
            raise BadInputError(f"{text} is not a text file: {error.reason}") from error
    if path.suffix.lower() in (*TABLES, ".txt") and not any(map(str.isspace, text)):
        raise StageError(f"there is no file {text}")
    return [text]


def _one_or_two(line: str, *, pairs: bool) -> str | tuple[str, str]:
    if not pairs:
        return line
    first, tab, second = line.partition("\t")
    if not tab:
        raise BadInputError(
            f"the student reads pairs of texts, and {line[:60]!r} has no tab between two"
        )
    return first, second


def _opened(block: Sequence[Closed], bad: _Bad) -> Iterator[tuple[str, Any]]:
    for name, opening in block:
        with bad.skipping():
            yield name, opening()
