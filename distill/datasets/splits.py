"""From a source to splits: leave out bad rows, carve what is missing, limit, check, number.

Chance is a fixed hash of (seed, purpose, id), so a draw is the same with every library version,
and an example's lot does not depend on how many others there are. Ids are positions in the
source: ``split * 10**12 + row`` with train 0, validation 1, test 2, where ``split`` is the one
the source keeps the example in. So they survive ``limit``, ``skip_bad`` and another seed; a row
carved out of train keeps its train id.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from distill.config import DataConfig
from distill.datasets.base import Dataset, Inputs, Part, Source, Split
from distill.datasets.checks import check_rows, check_splits, openable
from distill.datasets.errors import BadInputError, DataError
from distill.progress import Progress

SPLITS = ("train", "validation", "test")
SPLIT_STRIDE = 10**12
PURPOSES = {"test": 1, "validation": 2, "limit": 3, "order": 4}
MASK = (1 << 64) - 1


def split_ids(split: str, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Ids of a source's rows: unique over the splits, readable (2000000000017: test row 17)."""
    return rows + SPLITS.index(split) * SPLIT_STRIDE


def lots(ids: Int64[np.ndarray, " n"], *, seed: int, purpose: str) -> UInt64[np.ndarray, " n"]:
    """One fixed pseudo-random number an id: the splitmix64 finaliser (Steele et al., 2014)."""
    start = (seed * 0xD1342543DE82EF95 + PURPOSES[purpose] * 0x9E3779B97F4A7C15) & MASK
    mixed = ids.astype(np.uint64)
    for step in (np.uint64(start), np.uint64(0x9E3779B97F4A7C15)):
        mixed = mixed + step  # array arithmetic wraps silently, as it must here
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def allot(
    counts: Int64[np.ndarray, " classes"],
    total: int,
    *,
    least: Int64[np.ndarray, " classes"],
    most: Int64[np.ndarray, " classes"],
) -> Int64[np.ndarray, " classes"]:
    """Share ``total`` out in proportion to ``counts``, by largest remainders, within bounds.

    The result sums to ``total`` where the bounds allow it; a tie goes to the earlier class.
    """
    ideal = counts * total / max(int(counts.sum()), 1)  # exact products: ties stay ties
    given = np.clip(np.floor(ideal).astype(np.int64), least, most)
    while given.sum() != total:
        step = 1 if given.sum() < total else -1
        free = given < most if step > 0 else given > least
        if not free.any():
            break
        given[np.where(free, step * (ideal - given), -np.inf).argmax()] += step
    return given


def draw(
    ids: Int64[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"] | None,
    total: int,
    *,
    seed: int,
    purpose: str,
) -> Bool[np.ndarray, " n"]:
    """Mark ``total`` of the rows, stratified by label.

    Carving leaves every class at least one row behind; a limit keeps at least one of every
    class when it is large enough to.
    """
    groups = np.zeros(len(ids), np.int64) if labels is None else labels
    names, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    counts = counts.astype(np.int64)
    limiting = purpose == "limit"
    least = np.full(len(names), int(limiting and total >= len(names)), np.int64)
    given = allot(counts, total, least=least, most=counts if limiting else counts - 1)
    order = np.lexsort((lots(ids, seed=seed, purpose=purpose), group))
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen: Bool[np.ndarray, " n"] = rank < given[group]
    return chosen


def carve(
    ids: Int64[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"] | None,
    shares: Mapping[str, float],
    *,
    seed: int,
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Which rows go to which split: train, and each split in ``shares``.

    Test is carved first, then validation out of what is left, each the given share of what it
    is carved from, rounded up (as scikit-learn's ``train_test_split`` does).
    """
    left = np.ones(len(ids), bool)
    marks: dict[str, Bool[np.ndarray, " n"]] = {}
    for name in ("test", "validation"):
        if name not in shares:
            continue
        rows = np.flatnonzero(left)
        total = int(np.ceil(len(rows) * shares[name] - 1e-9))
        some = None if labels is None else labels[rows]
        taken = rows[draw(ids[rows], some, total, seed=seed, purpose=name)]
        if len(taken) == 0:
            raise DataError(
                f"{len(rows)} training examples are too few to carve a {name} split out of; "
                f"give the data a {name} split or more examples a class"
            )
        left[taken] = False
        marks[name] = np.isin(np.arange(len(ids)), taken)
    return {"train": left} | {name: marks[name] for name in SPLITS if name in marks}


def grouped(labels: Int64[np.ndarray, " n"]) -> bool:
    """Whether rows stand class by class: under half the label changes chance would bring."""
    share = np.bincount(labels) / max(len(labels), 1)
    by_chance = (len(labels) - 1) * (1 - float((share**2).sum()))
    return bool((np.diff(labels) != 0).sum() < by_chance / 2)


def assemble(
    name: str, source: Source, config: DataConfig, progress: Progress, *, mix: bool = True
) -> Dataset:
    """Make the data set that a source becomes under a config.

    With ``mix``, training rows that stand class by class are put into a fixed mixed order;
    all other rows keep the source's order.
    """
    notes = list(source.notes)
    usable = {role: usable_rows(part, config) for role, part in source.parts.items()}
    check_rows(name, source, usable)
    shares = {"validation": config.validation_share, "test": config.test_share}
    shares = {role: share for role, share in shares.items() if role not in usable}
    rows = {("train", role): chosen for role, chosen in _carved(source, usable, shares, config)}
    rows |= {(role, role): usable[role] for role in SPLITS[1:] if role in usable}
    notes += _carving_notes(shares, source.parts["train"], usable["train"])
    splits = {}
    for role in SPLITS:
        origin = next(first for first, second in rows if second == role)
        part = source.parts[origin]
        splits[role] = _split(role, origin, part, rows[origin, role], source, config, progress)
    check_splits(name, source.classes, splits, limit=config.limit)
    if mix and splits["train"].labels is not None and grouped(splits["train"].labels):
        splits["train"] = _mixed(splits["train"], config.seed)
        notes.append("training rows stood class by class and were put into a fixed mixed order")
    return Dataset(
        name=name,
        modality=source.modality,
        classes=source.classes,
        splits=splits,
        fingerprint=_fingerprint(source, splits),
        note=source.note,
        notes=tuple(notes),
    )


def usable_rows(part: Part, config: DataConfig) -> Int64[np.ndarray, " n"]:
    """Rows that are not known to be bad; without ``skip_bad`` the first bad one is an error."""
    if part.bad and not config.skip_bad:
        more = f" ({len(part.bad)} such rows)" if len(part.bad) > 1 else ""
        raise BadInputError(f"{part.bad[min(part.bad)]}{more}")
    keep = np.ones(len(part.reader), bool)
    keep[list(part.bad)] = False
    return np.flatnonzero(keep).astype(np.int64)


def _carved(
    source: Source,
    usable: Mapping[str, Int64[np.ndarray, " n"]],
    shares: Mapping[str, float],
    config: DataConfig,
) -> list[tuple[str, Int64[np.ndarray, " rows"]]]:
    """Rows of the source's train split by the split they end up in."""
    part, rows = source.parts["train"], usable["train"]
    labels = None if part.labels is None else part.labels[rows]
    marks = carve(split_ids("train", rows), labels, shares, seed=config.seed)
    return [(role, rows[mark]) for role, mark in marks.items()]


def _carving_notes(
    shares: Mapping[str, float], part: Part, rows: Int64[np.ndarray, " n"]
) -> list[str]:
    if not shares:
        return []
    carved = " and ".join(f"{role} ({shares[role]:.0%})" for role in SPLITS if role in shares)
    notes = [f"the data has no {carved.replace(' and ', ' and no ')} split: carved out of train"]
    if part.labels is not None:
        alone = int((np.bincount(part.labels[rows]) == 1).sum())
        if alone:
            have = "1 class has" if alone == 1 else f"{alone} classes have"
            notes.append(f"{have} a single example, which stays in train")
    return notes


def _split(
    role: str,
    origin: str,
    part: Part,
    rows: Int64[np.ndarray, " n"],
    source: Source,
    config: DataConfig,
    progress: Progress,
) -> Split:
    """Limit the rows and, where asked to, leave out those that cannot be opened."""
    if config.limit and len(rows) > config.limit:
        labels = None if part.labels is None else part.labels[rows]
        ids = split_ids(origin, rows)
        rows = rows[draw(ids, labels, config.limit, seed=config.seed, purpose="limit")]
    # a row without a usable label belongs to no carved split: train reports it
    skipped = [part.bad[row] for row in sorted(part.bad)] if role == origin else []
    if config.skip_bad and source.slow_to_check:
        rows, unreadable = openable(part.reader, rows, role, progress)
        skipped += unreadable
    return Split(
        name=role,
        ids=split_ids(origin, rows),
        labels=None if part.labels is None else part.labels[rows],
        inputs=Inputs(part.reader, rows),
        skipped=tuple(skipped),
    )


def _mixed(split: Split, seed: int) -> Split:
    """Put the rows into a fixed order by lot: readers shuffle within a window only."""
    order = np.argsort(lots(split.ids, seed=seed, purpose="order"), kind="stable")
    inputs, labels = split.inputs, split.labels
    return replace(
        split,
        ids=split.ids[order],
        labels=None if labels is None else labels[order],
        inputs=Inputs(inputs.reader, inputs.rows[order]),
    )


def _fingerprint(source: Source, splits: Mapping[str, Split]) -> str:
    digest = hashlib.sha256(b"distill data 1\0" + source.digest.encode())
    digest.update(repr((source.modality, source.classes)).encode())
    for split in splits.values():
        digest.update(f"\0{split.name} {len(split)}\0".encode() + split.ids.tobytes())
        digest.update(b"" if split.labels is None else split.labels.tobytes())
    return digest.hexdigest()[:32]
