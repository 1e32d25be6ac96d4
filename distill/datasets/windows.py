"""Texts as windows of tokens, all of one length, for a language model.

Texts, or rows of token ids, are joined in their order and cut; what is left at the end of a split
is dropped. Splits are those of the data, or carved out of it, as everywhere.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from distill.config import DataConfig
from distill.datasets.errors import DataError
from distill.datasets.files import open_columns
from distill.datasets.registry import load_dataset
from distill.datasets.splits import SPLITS, carve, draw, split_ids

IDS = "input_ids"  # the column of token ids
BLOCK = 512  # texts that are tokenised at a time

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
Ids = list[np.ndarray]  # of each text


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Tokens (windows, tokens) of each split, and what identifies them."""

    name: str
    splits: Mapping[str, Int64[np.ndarray, "windows tokens"]]
    fingerprint: str
    notes: tuple[str, ...] = ()


def load_windows(
    config: DataConfig, *, tokens: int, vocabulary: int, encode: Encode | None
) -> Windows:
    """Windows of a data set: of its column ``input_ids``, or of its texts by ``encode``.

    ``config.limit`` is of texts. ``DataError`` as ``load_dataset``; for texts without ``encode``,
    ids outside of the vocabulary, and a split that fills no window.
    """
    found = _of_ids(config)
    told = f"token ids from {IDS!r}"
    notes: tuple[str, ...] = ()
    if found is None:
        if encode is None:
            raise DataError(
                f"{config.name} has no column {IDS!r}, and the model has no tokenizer beside it: "
                "give token ids, or a folder that has the tokenizer's files"
            )
        dataset = load_dataset(config.model_copy(update={"labelled": False}))
        if dataset.modality != "text":
            raise DataError(f"{config.name} holds {dataset.modality}s; a language model reads text")
        found = {
            name: _encoded(dataset.splits[name].inputs, encode, config.name) for name in SPLITS
        }
        told, notes = "texts, tokenised", dataset.notes
    cut = {name: _cut(rows, tokens) for name, rows in found.items()}
    for name, windows in cut.items():
        if not len(windows):
            have = sum(map(len, found[name]))
            raise DataError(
                f"the {name} split of {config.name} has {have} tokens, and a window is of "
                f"{tokens}: give more texts, or --tokens below it"
            )
        if windows.min() < 0 or windows.max() >= vocabulary:
            worst = int(windows.max() if windows.max() >= vocabulary else windows.min())
            raise DataError(
                f"the {name} split of {config.name} has the token {worst}, and the model knows "
                f"0 to {vocabulary - 1}: it was tokenised for another"
            )
    digest = hashlib.sha256(b"distill windows 1\0")
    for name, windows in cut.items():
        digest.update(f"{name} {windows.shape}\0".encode() + windows.tobytes())
    return Windows(
        name=config.name,
        splits=cut,
        fingerprint=digest.hexdigest()[:32],
        notes=(*notes, f"{told}, in windows of {tokens}"),
    )


def _encoded(texts: Sequence[Any], encode: Encode, name: str) -> Ids:
    found: Ids = []
    for start in range(0, len(texts), BLOCK):
        block = [texts[row] for row in range(start, min(start + BLOCK, len(texts)))]
        if not isinstance(block[0], str):
            raise DataError(
                f"{name} holds pairs of texts; name one column with data.text_columns "
                "(--text-columns)"
            )
        found += [np.asarray(ids, dtype=np.int64) for ids in encode(block)]
    return found


def _cut(rows: Ids, tokens: int) -> Int64[np.ndarray, "windows tokens"]:
    joined = np.concatenate([np.zeros(0, np.int64), *rows])
    whole = len(joined) // tokens
    return np.ascontiguousarray(joined[: whole * tokens].reshape(whole, tokens))


def _of_ids(config: DataConfig) -> dict[str, Ids] | None:
    """Rows of token ids of each split; None where the data have no such column."""
    if config.text_columns:
        return None
    tables = open_columns(config, IDS)
    if tables is None:
        return None
    usable: dict[str, Ids] = {}
    for role, (column, where) in tables.items():
        usable[role] = [_ids(row, number, where) for number, row in enumerate(column)]
    train = usable["train"]
    shares = {"validation": config.validation_share, "test": config.test_share}
    shares = {role: share for role, share in shares.items() if role not in usable}
    marks = carve(_numbers(train), None, shares, seed=config.seed)
    found = {
        **{role: [train[row] for row in np.flatnonzero(mark)] for role, mark in marks.items()},
        **{role: rows for role, rows in usable.items() if role != "train"},
    }
    return {role: _limited(found[role], config) for role in SPLITS}


def _ids(row: Any, number: int, where: str) -> np.ndarray:
    found = np.asarray([] if row is None else row)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise DataError(
            f"{where}: row {number} of {IDS!r} holds more than whole numbers; give one list of "
            "token ids a row"
        )
    return found.astype(np.int64)


def _limited(rows: Ids, config: DataConfig) -> Ids:
    if not config.limit or len(rows) <= config.limit:
        return rows
    kept = draw(_numbers(rows), None, config.limit, seed=config.seed, purpose="limit")
    return [rows[row] for row in np.flatnonzero(kept)]


def _numbers(rows: Ids) -> Int64[np.ndarray, " rows"]:
    return split_ids("train", np.arange(len(rows), dtype=np.int64))
