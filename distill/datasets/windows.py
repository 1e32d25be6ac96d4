"""Texts as windows of tokens, all of one length, for a language model.

Texts, or rows of token ids, are joined in their order and cut; what is left at the end of a split
is dropped. Splits are those of the data, or carved out of it, as everywhere.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from jaxtyping import Bool, Int64

from distill.config import DataConfig
from distill.datasets.errors import DataError
from distill.datasets.files import open_columns
from distill.datasets.registry import load_dataset
from distill.datasets.splits import SPLITS, carve, draw, split_ids

IDS = "input_ids"  # the column of token ids
BLOCK = 512  # texts that are tokenised at a time

if TYPE_CHECKING:
    import pyarrow as pa

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Ids:
    """Token ids of all texts in their order, and how many each has: no list of a text is made."""

    tokens: Int64[np.ndarray, " tokens"]
    lengths: Int64[np.ndarray, " texts"]

    @classmethod
    def joined(cls, parts: Iterable["Ids"]) -> "Ids":
        """Those of several, one after the other."""
        none = np.zeros(0, np.int64)
        some = list(parts)
        return cls(
            tokens=np.concatenate([none, *(part.tokens for part in some)]),
            lengths=np.concatenate([none, *(part.lengths for part in some)]),
        )

    def kept(self, mark: Bool[np.ndarray, " texts"]) -> "Ids":
        """Those of some texts."""
        if mark.all():
            return self
        return Ids(tokens=self.tokens[np.repeat(mark, self.lengths)], lengths=self.lengths[mark])


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
    cut = {name: cut_into(ids.tokens, tokens) for name, ids in found.items()}
    for name, windows in cut.items():
        if not len(windows):
            have = len(found[name].tokens)
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
    found: list[Ids] = []
    for start in range(0, len(texts), BLOCK):
        block = [texts[row] for row in range(start, min(start + BLOCK, len(texts)))]
        if not isinstance(block[0], str):
            raise DataError(
                f"{name} holds pairs of texts; name one column with data.text_columns "
                "(--text-columns)"
            )
        said = [np.asarray(ids, dtype=np.int64) for ids in encode(block)]
        lengths = np.array([len(ids) for ids in said], dtype=np.int64)
        found.append(Ids(tokens=np.concatenate(said), lengths=lengths))
    return Ids.joined(found)


def cut_into(ids: Int64[np.ndarray, " ids"], tokens: int) -> Int64[np.ndarray, "windows tokens"]:
    """Windows of so many tokens; what is left at the end is dropped."""
    whole = len(ids) // tokens
    return np.ascontiguousarray(ids[: whole * tokens].reshape(whole, tokens))


def _of_ids(config: DataConfig) -> dict[str, Ids] | None:
    """Token ids of each split; None where the data have no such column."""
    if config.text_columns:
        return None
    tables = open_columns(config, IDS)
    if tables is None:
        return None
    usable = {role: Ids.joined(_arrow(*part) for part in parts) for role, parts in tables.items()}
    train = usable["train"]
    shares = {"validation": config.validation_share, "test": config.test_share}
    shares = {role: share for role, share in shares.items() if role not in usable}
    marks = carve(_numbers(train), None, shares, seed=config.seed)
    found = usable | {role: train.kept(mark) for role, mark in marks.items()}
    return {role: _limited(found[role], config) for role in SPLITS}


def _arrow(column: "pa.ChunkedArray", where: str) -> Ids:
    """A column of lists of whole numbers; a missing list is an empty one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    forms = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = any(is_one(kind) for is_one in forms)
    if not lists or not (pa.types.is_integer(kind.value_type) or pa.types.is_null(kind.value_type)):
        raise DataError(
            f"{where}: {IDS!r} holds {kind}, not whole numbers; give one list of token ids a row"
        )
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    flat = pc.list_flatten(column)
    if flat.null_count:
        at = int(np.flatnonzero(pc.is_null(flat).to_numpy())[0])
        row = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
        raise DataError(
            f"{where}: row {row} of {IDS!r} lacks a number; give one list of token ids a row"
        )
    return Ids(tokens=flat.to_numpy().astype(np.int64), lengths=lengths)


def _limited(ids: Ids, config: DataConfig) -> Ids:
    if not config.limit or len(ids.lengths) <= config.limit:
        return ids
    return ids.kept(draw(_numbers(ids), None, config.limit, seed=config.seed, purpose="limit"))


def _numbers(ids: Ids) -> Int64[np.ndarray, " texts"]:
    return split_ids("train", np.arange(len(ids.lengths), dtype=np.int64))
