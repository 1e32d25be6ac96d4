"""``validate``: how far a candidate store keeps the geometry of a reference store.

Any two stores of the same examples: a projection of the features, a student's outputs, another
teacher's. Pairs and queries are sampled by seed; the neighbours of a query are exact, among all
rows. A store of up to ``HELD`` bytes is read once; a larger one once for every question, a block
at a time, so memory does not grow with the rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Int64

from distill.config import ValidateConfig
from distill.errors import StageError
from distill.findings import Check, Promise, Validation
from distill.limits import ROUNDING, check_ratios, check_recall, overlap, participation
from distill.metrics import accuracy, distortion, ratios, spearman
from distill.neighbours import (
    Neighbours,
    distances_to,
    hits,
    majority,
    nearest_rows_faiss,
    no_neighbours,
    pair_distances,
)
from distill.progress import Progress
from projections import expected_ratio_std, jl_dim, jl_eps, shared_shift
from stores import FeatureStore

HELD = 256 * 2**20  # bytes of float32 rows kept in memory for each of the two stores
BLOCK = 32 * 2**20  # bytes of float32 rows searched at a time
SAMPLE = 4096  # rows between which pairs are drawn
PARTICIPANTS = 2000  # of the sample, for the participation ratio
DIRECTIONS = 1000  # differences whose directions are compared with one another


@final
@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a store as float32, from memory where they were small enough to be kept."""

    store: FeatureStore
    ids: Int64[np.ndarray, " rows"]
    held: Float32[np.ndarray, "rows dim"] | None

    def blocks(self) -> Iterator[tuple[int, Float32[np.ndarray, "block dim"]]]:
        """All rows in order, each block with the number of its first row."""
        some = max(1, BLOCK // (4 * self.store.spec.dim))
        for start in range(0, len(self.ids), some):
            if self.held is not None:
                yield start, self.held[start : start + some]
            else:
                yield start, self.read(start, min(start + some, len(self.ids)))

    def take(self, numbers: Int64[np.ndarray, " some"]) -> Float32[np.ndarray, "some dim"]:
        """Rows as named, in that order."""
        taken = np.empty((len(numbers), self.store.spec.dim), np.float32)
        if self.held is not None:
            return np.take(self.held, numbers, axis=0, out=taken)
        for start, rows in self.blocks():
            here = np.flatnonzero((numbers >= start) & (numbers < start + len(rows)))
            taken[here] = rows[numbers[here] - start]
        return taken

    def read(self, start: int, stop: int) -> Float32[np.ndarray, "block dim"]:
        """Rows from the disk; NaN and infinities, which have no distances, are refused."""
        rows = self.store.features(start, stop).astype(np.float32, copy=False)
        with np.errstate(all="ignore"):
            sums = rows @ np.ones(rows.shape[1], np.float32)  # a pass over all, but at full speed
        if not np.isfinite(sums).all() and not (finite := np.isfinite(rows).all(axis=1)).all():
            row = start + int(np.argmin(finite))
            raise StageError(
                f"{_name(self.store)}: row {row} (id {self.ids[row]}) holds NaN or infinite "
                "features; make the store again"
            )
        return rows


@final
@dataclass(frozen=True, eq=False)
class _Pairs:
    """Squared distances of the same pairs of rows before and after, and some differences."""

    before: Float32[np.ndarray, " pairs"]
    after: Float32[np.ndarray, " pairs"]
    differences: Float32[np.ndarray, "some dim"]  # of the reference, at most DIRECTIONS; none zero


def validate(
    reference: FeatureStore,
    candidate: FeatureStore,
    *,
    settings: ValidateConfig,
    split: str,
    progress: Progress,
) -> Validation:
    """Compare distances and neighbours of the same examples in two stores.

    A candidate that says it is a data-independent projection of the reference is held to what
    theory allows such a map; for any other the measures are diagnostics. Stores of different
    examples, or too few of them, raise ``StageError``.
    """
    start = perf_counter()
    ids = _same_examples(reference, candidate)
    votes = _votes(reference, candidate)
    rng = np.random.default_rng(settings.seed)
    k = min(settings.neighbours, _others(ids, reference))
    if k < settings.neighbours:
        progress.say(
            f"every row has {k} others at most: that many neighbours, not {settings.neighbours}"
        )
    sample = rng.permutation(len(ids))[: max(SAMPLE, settings.queries)]
    asked = sample[: settings.queries]
    label = f"validate {_name(candidate)}"
    with progress.task(label, total=2 * len(ids), unit="rows") as advance:
        before, after = _open(reference, ids), _open(candidate, ids)
        rows, mapped = before.take(sample), after.take(sample)
        pairs = _sampled_pairs(rows, mapped, settings.pairs, rng)
        queries, mapped = rows[: len(asked)], mapped[: len(asked)]
        if not len(pairs.differences):
            raise StageError(
                f"{_name(reference)}: all {len(pairs.before)} sampled pairs are of rows that are "
                "equal, or nearer than float32 tells; there are no distances to compare"
            )
        for store, squares in ((reference, pairs.before), (candidate, pairs.after)):
            if not np.isfinite(squares).all():
                raise StageError(
                    f"{_name(store)}: rows lie so far apart that their squared distances are no "
                    "float32; divide the features by a number before they are stored"
                )
        found, _ = _search(after, mapped, asked, None, k=k, advance=advance)
        truth, distances = _search(before, queries, asked, found, k=k, advance=advance)
        near = _near_pairs(before, after, asked, truth, rng)
    recall = float(hits(truth, distances).mean())
    projection = _projection_of(reference, candidate)
    kind = str(projection.get("kind", ""))
    promise = _promise(kind, rows[:PARTICIPANTS], candidate.spec.dim, len(ids), settings.eps)
    return Validation(
        reference=_name(reference),
        candidate=_name(candidate),
        kind=kind,
        dim_in=reference.spec.dim,
        dim_out=candidate.spec.dim,
        seed=int(projection.get("seed", 0)),
        split=split,
        rows=len(ids),
        queries=len(asked),
        k=k,
        distortion=distortion(pairs.before, pairs.after, eps=settings.eps),
        promise=promise,
        recall=recall,
        knn_accuracy_reference=votes(asked, truth),
        knn_accuracy_candidate=votes(asked, found),
        rank_correlation=spearman(pairs.before, pairs.after),
        checks=_checks(pairs, near, promise, reference, candidate)
        or (check_recall(recall, chance=k / _others(ids, reference), drawn=k * len(asked)),),
        diagnostic_only=promise.expected_std is None,
        seconds=perf_counter() - start,
    )


def _same_examples(reference: FeatureStore, candidate: FeatureStore) -> Int64[np.ndarray, " rows"]:
    """Ids of both, if they hold the same examples in the same order."""
    ids, others = reference.ids(), candidate.ids()
    names = [_name(reference), _name(candidate)]
    if names[0] == names[1]:  # of two runs
        names = [str(reference.path), str(candidate.path)]
    both = " and ".join(names)
    if len(ids) != len(others):
        raise StageError(
            f"{both} hold different examples: {len(ids)} rows and {len(others)}; compare stores "
            "that were made from the same split of the same data"
        )
    unlike = np.flatnonzero(ids != others)
    if len(unlike):
        row = unlike[0]
        what = (
            "the same examples in another order"
            if np.array_equal(np.sort(ids), np.sort(others))
            else "different examples"
        )
        raise StageError(
            f"{both} hold {what}: row {row} is example {ids[row]} in one and {others[row]} in the "
            "other; compare stores that were made from the same split of the same data"
        )
    return ids


def _others(ids: Int64[np.ndarray, " rows"], store: FeatureStore) -> int:
    """How many rows are of another example than a query's, whichever is asked."""
    others = len(ids) - int(np.unique(ids, return_counts=True)[1].max())
    if others < 1:
        raise StageError(f"{_name(store)} holds one example only; distances need at least two")
    return others


def _open(store: FeatureStore, ids: Int64[np.ndarray, " rows"]) -> _Rows:
    rows = _Rows(store, ids, None)
    fits = 4 * len(ids) * store.spec.dim <= HELD
    return _Rows(store, ids, rows.read(0, len(ids))) if fits else rows


def _sampled_pairs(
    before: Float32[np.ndarray, "sample dim"],
    after: Float32[np.ndarray, "sample k"],
    pairs: int,
    rng: np.random.Generator,
) -> _Pairs:
    """Pairs of two different rows each of the sample, every one as likely."""
    rows = len(before)
    first = rng.integers(0, rows, pairs)
    second = (first + rng.integers(1, rows, pairs)) % rows
    return _measured(before, after, first, second)


def _near_pairs(
    before: _Rows,
    after: _Rows,
    asked: Int64[np.ndarray, " queries"],
    truth: Neighbours,
    rng: np.random.Generator,
) -> _Pairs:
    """Each of up to ``DIRECTIONS`` queries with one of its true neighbours."""
    some = min(DIRECTIONS, len(asked))
    rank = rng.integers(0, truth.rows.shape[1], some)
    numbers = np.concatenate([asked[:some], truth.rows[np.arange(some), rank]])
    first = np.arange(some)
    return _measured(before.take(numbers), after.take(numbers), first, first + some)


def _measured(
    before: Float32[np.ndarray, "rows dim"],
    after: Float32[np.ndarray, "rows k"],
    first: Int64[np.ndarray, " pairs"],
    second: Int64[np.ndarray, " pairs"],
) -> _Pairs:
    distances = pair_distances(before, first, second)
    differ = np.flatnonzero(distances > 0)[:DIRECTIONS]
    return _Pairs(
        distances,
        pair_distances(after, first, second),
        before[first[differ]] - before[second[differ]],
    )


def _search(
    rows: _Rows,
    queries: Float32[np.ndarray, "queries dim"],
    asked: Int64[np.ndarray, " queries"],
    found: Neighbours | None,
    *,
    k: int,
    advance: Callable[[int], None],
) -> tuple[Neighbours, Float32[np.ndarray, "queries k"]]:
    """``k`` nearest of each query among all rows, and how far off here are those ``found``."""
    table = no_neighbours(len(asked), k)
    distances = table.distances.copy()
    for start, block in rows.blocks():
        stop = start + len(block)
        ids = rows.ids[start:stop]
        table = table.merged(
            nearest_rows_faiss(queries, rows.ids[asked], block, ids, k=k, start=start)
        )
        if found is not None:
            here = (found.rows >= start) & (found.rows < stop)
            numbers = np.where(here, found.rows - start, -1)
            distances = np.minimum(distances, distances_to(queries, block, numbers))
        advance(len(block))
    return table, distances


def _projection_of(reference: FeatureStore, candidate: FeatureStore) -> Mapping[str, Any]:
    """Find out which map made the candidate from the reference; empty if none did."""
    made_by = candidate.spec.made_by
    projection = made_by.get("projection")
    if not isinstance(projection, Mapping):
        return {}
    widths = (projection.get("dim_in"), projection.get("dim_out"))
    fits = widths == (reference.spec.dim, candidate.spec.dim)
    return projection if fits and _is_source(reference, made_by) else {}


def _is_source(reference: FeatureStore, made_by: Mapping[str, Any]) -> bool:
    """Whether a projection is of this reference's rows.

    One that was made with the features names no store: it is of these rows where the same
    teacher saw the same inputs, that is, where all but the map is equal.
    """
    if "source" in made_by:
        return bool(made_by["source"] == reference.digest)
    apart = ("projection", "versions")
    rest = {name: value for name, value in made_by.items() if name not in apart}
    there = {name: value for name, value in reference.spec.made_by.items() if name != "versions"}
    return rest == there


def _promise(
    kind: str, rows: Float32[np.ndarray, "some dim"], dim_out: int, of: int, eps: float
) -> Promise:
    ratio = participation(rows)
    std = expected_ratio_std(kind, rows.shape[1], dim_out)
    return Promise(
        lemma_dim=jl_dim(of, eps),
        lemma_eps=jl_eps(of, dim_out),
        expected_std=std,
        shared_shift=None if std is None else shared_shift(dim_out, ratio),
        participation_ratio=ratio,
    )


def _checks(
    pairs: _Pairs,
    near: _Pairs,
    promise: Promise,
    reference: FeatureStore,
    candidate: FeatureStore,
) -> tuple[Check, ...]:
    """Those of a map with a known spread; none for any other candidate."""
    if promise.expected_std is None:
        return ()
    if not len(near.differences):  # every query has a duplicate of itself nearby
        near = pairs
    return check_ratios(
        ratios(pairs.before, pairs.after),
        ratios(near.before, near.after),
        std=promise.expected_std,
        dim_out=candidate.spec.dim,
        shared=overlap(pairs.differences, pairs=int(np.sum(pairs.before > 0))),
        near_shared=overlap(near.differences, pairs=int(np.sum(near.before > 0))),
        rounding=max(ROUNDING[store.spec.dtype] for store in (reference, candidate)),
    )


def _votes(
    reference: FeatureStore, candidate: FeatureStore
) -> Callable[[Int64[np.ndarray, " queries"], Neighbours], float | None]:
    """How often the majority of a query's neighbours has its class; None without labels."""
    labelled = [store for store in (reference, candidate) if store.spec.labelled]
    if not labelled:
        return lambda _asked, _table: None
    labels = labelled[0].labels()
    if len(labelled) == 2 and not np.array_equal(labels, candidate.labels()):
        raise StageError(
            f"{_name(reference)} and {_name(candidate)} hold other labels for the same ids; "
            "compare stores that were made from the same data"
        )

    def vote(asked: Int64[np.ndarray, " queries"], table: Neighbours) -> float:
        classes = np.where(table.rows >= 0, labels[table.rows], -1)
        return accuracy(labels[asked], majority(classes))

    return vote


def _name(store: FeatureStore) -> str:
    """Store and split, as they lie in a run folder: ``features.zarr/train``."""
    return f"{store.path.parent.name}/{store.path.name}"
