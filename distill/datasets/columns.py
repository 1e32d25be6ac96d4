"""Which columns of a table are the inputs and which the label: by name, or by feature type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from distill.config import DataConfig
from distill.datasets.errors import DataError, some
from distill.errors import nearest

TEXT_NAMES = ("text", "sentence", "content", "utterance", "query", "review", "document")
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LABEL_NAMES = ("label", "labels", "class", "target", "category", "intent", "y")
NO_CONTENT = ("id", "idx", "index", "guid", "uid", "uuid", "filename", "file_name", "path")


@final
@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns to read."""

    modality: str  # "image" or "text"
    inputs: tuple[str, ...]  # one, or two for sentence pairs
    label: str  # "" where there is none


def choose_columns(features: Mapping[str, Any], config: DataConfig, where: str) -> Columns:
    """Choose by the config's names first, then by feature type, then by customary names.

    ``features`` are those of a Hugging Face ``datasets`` table. A label column is no input even
    where labels are not wanted.
    """
    for option, name in _named(config):
        if name not in features:
            raise DataError(
                f"{where} has no column {name!r}; it has {some(features)}{nearest(name, features)} "
                f"(data.{option})"
            )
    if config.text_columns and config.image_column:
        raise DataError("name data.text_columns or data.image_column, not both")
    label = config.label_column or _label(features, config, where)
    kept = label if config.labelled else ""
    if label and label in (*config.text_columns, config.image_column):
        raise DataError(f"column {label!r} of {where} cannot be both input and label")
    image = "" if config.text_columns else _image(features, config, where)
    if image:
        return Columns(modality="image", inputs=(image,), label=kept)
    return Columns(modality="text", inputs=_texts(features, config, label, where), label=kept)


def _named(config: DataConfig) -> list[tuple[str, str]]:
    texts = [("text_columns", name) for name in config.text_columns]
    others = [("image_column", config.image_column), ("label_column", config.label_column)]
    return texts + [(option, name) for option, name in others if name]


def is_text(feature: Any) -> bool:
    """Whether a feature holds strings."""
    return getattr(feature, "dtype", "") in ("string", "large_string") and not is_image(feature)


def is_image(feature: Any) -> bool:
    """Whether a feature holds images, declared ones or an undeclared struct of bytes and path."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return type(feature).__name__ == "Image"


def _is_classes(feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel"


def _is_discrete(feature: Any) -> bool:
    kind = str(getattr(feature, "dtype", ""))
    return not is_text(feature) and (kind.startswith(("int", "uint", "bool")))


def _label(features: Mapping[str, Any], config: DataConfig, where: str) -> str:
    """ClassLabel columns first, then customary names, then the only column it could be."""
    taken = {*config.text_columns, config.image_column}
    left = {name: feature for name, feature in features.items() if name not in taken}
    declared = [name for name, feature in left.items() if _is_classes(feature)]
    for candidates in (declared, list(left)):
        for customary in LABEL_NAMES:
            found = [name for name in candidates if name.lower() == customary]
            if found:
                return found[0]
        if candidates is declared and len(declared) == 1:
            return declared[0]
    if declared and config.labelled:
        raise DataError(
            f"{where} has several label columns: {some(declared)}; name one with data.label_column"
        )
    lone = [
        name
        for name, feature in left.items()
        if _is_discrete(feature) and name.lower() not in NO_CONTENT
    ]
    return lone[0] if len(lone) == 1 else ""


def _image(features: Mapping[str, Any], config: DataConfig, where: str) -> str:
    named = config.image_column
    if named:
        if is_image(features[named]) or is_text(features[named]):
            return named  # text: paths of image files, relative to the table
        raise DataError(f"column {named!r} of {where} holds neither images nor paths of images")
    found = [name for name, feature in features.items() if is_image(feature)]
    if len(found) > 1:
        raise DataError(
            f"{where} has several image columns: {some(found)}; name one with data.image_column"
        )
    return found[0] if found else ""


def _texts(
    features: Mapping[str, Any], config: DataConfig, label: str, where: str
) -> tuple[str, ...]:
    if len(config.text_columns) > 2:
        raise DataError(
            f"data.text_columns takes one column, or two for pairs; got {some(config.text_columns)}"
        )
    for name in config.text_columns:
        if not may_hold_text(features[name]):
            kind = getattr(features[name], "dtype", "") or type(features[name]).__name__
            raise DataError(f"column {name!r} of {where} holds {kind}, not text")
    if config.text_columns:
        return config.text_columns
    texts = [name for name, feature in features.items() if may_hold_text(feature) and name != label]
    content = [name for name in texts if name.lower() not in NO_CONTENT]
    if len(content) == 1:
        return (content[0],)
    for customary in TEXT_NAMES:
        found = [name for name in content if name.lower() == customary]
        if found:
            return (found[0],)
    pairs = [pair for pair in PAIRS if set(pair) <= set(content)]
    if pairs:
        return pairs[0]
    if content:
        raise DataError(
            f"{where} has several text columns: {some(content)}; name one, or two for pairs, "
            "with data.text_columns (--text-columns)"
        )
    raise DataError(
        f"{where} has no image and no text column; it has {some(features)}; embeddings of your "
        "own go in with 'distill import'"
    )


def may_hold_text(feature: Any) -> bool:
    """Strings, or JSON values of mixed kinds, of which single rows may be no text."""
    return is_text(feature) or type(feature).__name__ == "Json"
