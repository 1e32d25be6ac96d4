"""From a kind of map to the maps themselves: drawn from a seed, or fitted on a training part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Int64

from distill.sweeping.rows import Rows
from projections import (
    KINDS,
    Moments,
    Projection,
    fit_projections,
    kind_of,
    learn_projection,
    make_projection,
)

FULL = "full"  # the features as they are: factor 1
LEARNED = "learned"  # the one kind that reads the rows themselves, and has a seed though fitted

# of at most C - 1 directions of their own
SUPERVISED = ("discriminant", "head-svd", "fisher", LEARNED)
TRUNCATED = ("head-svd", "fisher", LEARNED)  # that begin with the trained full head


def needs_data(kind: str) -> bool:
    """Whether maps of this kind are computed from rows; ``UnknownKindError`` for none."""
    return kind != FULL and kind_of(kind).needs_data


def is_seeded(kind: str) -> bool:
    """Whether another seed gives another map."""
    return kind != FULL and (kind == LEARNED or not KINDS[kind].needs_data)


def middle(l2: Sequence[float]) -> float:
    """The middle of the grid: of the full head that head-svd truncates, and of the learned kind.

    In cross-validation it is fixed beforehand, so that no map depends on which l2 scored best on
    held-out rows.
    """
    ordered = sorted(l2)
    return ordered[len(ordered) // 2]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What maps are fitted on: some rows, their moments, and the full head that was fitted on them.

    Only the fisher and the learned kind look at the rows.
    """

    moments: Moments
    weight: Float32[np.ndarray, "classes dim"]
    bias: Float32[np.ndarray, " classes"]
    rows: Rows
    labels: Int64[np.ndarray, " rows"]
    chosen: Int64[np.ndarray, " fit"]  # numbers of the rows, ascending

    def logits(self) -> Iterator[Float32[np.ndarray, "some classes"]]:
        """The full head's logits of the chosen rows, block after block."""
        for start, features in self.rows.blocks():
            first, last = np.searchsorted(self.chosen, (start, start + len(features)))
            yield features[self.chosen[first:last] - start] @ self.weight.T + self.bias


def maps_of(
    kind: str,
    dims: Sequence[int],
    part: Part,
    *,
    widest: int,
    seed: int,
    l2: float,
    max_iterations: int,
) -> tuple[Projection, ...]:
    """One map for each width; the data-aware kinds but one from a single decomposition.

    Its last bits depend on how far it goes: to ``widest``, whichever of the widths are wanted.
    ``l2`` and ``max_iterations`` are of the learned kind, which is trained.
    """
    if not dims:
        return ()
    if not needs_data(kind):
        dim = part.moments.dim
        return tuple(make_projection(kind, dim_in=dim, dim_out=k, seed=seed) for k in dims)
    if kind != LEARNED:
        found = fit_projections(
            kind, part.moments, [widest, *dims], head=part.weight, logits=part.logits()
        )
        return found[1:]
    features, labels = part.rows.all()[part.chosen], part.labels[part.chosen]
    return tuple(
        learn_projection(
            features,
            labels,
            classes=part.moments.classes,
            dim_out=k,
            head=part.weight,
            moments=part.moments,
            seed=seed,
            l2=l2,
            max_iterations=max_iterations,
        )
        for k in dims
    )
