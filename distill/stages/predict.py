"""``predict``: classes from a trained student, for image files, folders of them, or text lines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from distill.allocator import memory_kept
from distill.datasets import BadInputError
from distill.datasets.images import SUFFIXES, open_image
from distill.errors import StageError
from distill.findings import Prediction, Predictions
from distill.predictor import Predictor, load_predictor
from distill.progress import Progress

Named = tuple[str, Any]  # what the user called an input, and the input


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
) -> Predictions:
    """Say the likeliest class of each input, in their order.

    For a student that reads images an input is a file, or a folder whose image files are taken
    in the order of their paths. For one that reads text it is a line, or the name of a file with
    a line for each; a pair of texts is one line with a tab between them. Blank lines are left
    out, which is said. ``skip_bad`` leaves out what cannot be read and says so; otherwise that is
    a ``BadInputError`` that names it. ``StageError`` where there is nothing to predict.
    """
    predictor = load_predictor(folder, device=device)
    image = predictor.student.blueprint.modality == "image"
    bad = _Bad(skip_bad, progress)
    named = list(_image_files(inputs) if image else _lines(inputs, predictor, bad))
    if not named and not bad.skipped:
        raise StageError(f"nothing to predict in {' '.join(inputs) or 'no input'}")
    found: list[Prediction] = []
    with progress.task("predict", total=len(named), unit="inputs") as advance:
        for start in range(0, len(named), batch_size):
            block = named[start : start + batch_size]
            found += _answers(predictor, list(_opened(block, bad)), batch_size)
            advance(len(block))
    if not found:
        raise StageError(f"no input could be read; skipped: {bad.skipped}")
    return Predictions(student=predictor.name, predictions=tuple(found))


def _answers(predictor: Predictor, block: list[Named], batch_size: int) -> list[Prediction]:
    labels, shares = predictor.predict([value for _, value in block], batch_size=batch_size)
    return [
        Prediction(input=name, label=label, probability=float(row.max()))
        for (name, _), label, row in zip(block, labels, shares, strict=True)
    ]


def _image_files(inputs: Sequence[str]) -> Iterator[Named]:
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            files = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            yield from ((str(file), file) for file in sorted(files))
        elif path.is_file():
            yield name, path
        else:
            raise StageError(f"there is no image file or folder {name}; the student reads images")


def _lines(inputs: Sequence[str], predictor: Predictor, bad: _Bad) -> Iterator[Named]:
    pairs = bool(predictor.student.preprocessing.get("pairs"))
    for text in inputs:
        lines: list[str] = []
        with bad.skipping():
            lines = _lines_of(text)
        there = [line for line in lines if line.strip()]
        if len(there) < len(lines):
            of = f" of {text}" if text.strip() else ""
            bad.progress.say(f"skipped: blank lines{of}, {len(lines) - len(there)} in all")
        for line in there:
            with bad.skipping():
                yield line, _one_or_two(line, pairs=pairs)


def _lines_of(text: str) -> list[str]:
    """Read the lines of the file of that name; otherwise the text is the line."""
    try:
        if not Path(text).is_file():
            return [text]
        content = Path(text).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{text} is not a text file: {error.reason}") from error
    except (OSError, ValueError):  # a text that is too long, or too odd, to be a file's name
        return [text]
    return content.splitlines()


def _one_or_two(line: str, *, pairs: bool) -> str | tuple[str, str]:
    if not pairs:
        return line
    first, tab, second = line.partition("\t")
    if not tab:
        raise BadInputError(
            f"the student reads pairs of texts, and {line[:60]!r} has no tab between two"
        )
    return first, second


def _opened(block: Sequence[Named], bad: _Bad) -> Iterator[Named]:
    for name, value in block:
        with bad.skipping():
            yield name, open_image(value, name) if isinstance(value, Path) else value
