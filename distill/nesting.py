"""Networks to be nested: how one is cut, which rows it learns, and how it does at a budget.

Functions of a network and prepared batches; no run folder, no command. A batch is ``(inputs,)``,
as ``students.nested`` calls a network of prepared inputs with it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from distill.config import NestConfig
from distill.datasets import Split
from distill.errors import StageError
from distill.stored import StoreRows, spread
from stores import FeatureStore
from students import (
    Classifier,
    Evaluation,
    Feed,
    batched,
    evaluate_logits,
    forward_rows,
)
from students.nested import (
    Costs,
    NestedPath,
    NormStatistics,
    RankError,
    Tried,
    biasable_layers,
    candidate_ranks,
    dense_costs,
    find_path,
    held_norms,
    load_norms,
    measure_norms,
    nest,
    nested_layers,
    nested_path,
    sensitivities,
    set_rank,
    useful_ranks,
    using_ranks,
)
from teachers import Prepare

BATCH = 32  # calibration rows at a time
NORMED = 24  # points of the path of a network with BatchNorm: each has statistics of its own
# what decides the cut, of the settings
SURGICAL = (
    "include", "rank", "ranks", "init", "calibration", "probe", "candidates", "floor", "gauges",
    "seed",
)  # fmt: skip
# settings that came later: where they are not set, networks of before are the same
_LATER = ("augment", "budgets", "hint_weight", "mix", "own_biases")
_MIDDLE = 64  # training examples, whose middling one costs are counted at

Batches = Sequence[tuple[dict[str, Tensor]]]
Told = Callable[[int], None]
Ranks = Mapping[str, int]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A trained network that is to be nested. ``card`` says how the same one is built anew."""

    name: str
    network: Classifier
    prepare: Prepare
    card: Mapping[str, Any]
    made_by: Mapping[str, Any]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A nested network that was taught nothing yet, with its path."""

    network: Classifier
    path: NestedPath
    dense_flops: int


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """Projected rows of the training examples, in the order of the data."""

    rows: Callable[[np.ndarray], Tensor]
    scale: float  # the one number by which they are divided in the loss
    digest: str
    dim: int


class Telling(nn.Module):
    """A classifier that tells what its head reads, beside the logits."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``rows`` (rows, k) and ``logits`` (rows, classes)."""
        rows = self.classifier.encoder(prepared)
        return {"rows": rows, "logits": self.classifier.head(rows)}


def deciding(settings: NestConfig) -> dict[str, Any]:
    """What decides a nested network, of its settings, as plain values."""
    fields = NestConfig.model_fields
    unset = {name for name in _LATER if getattr(settings, name) == fields[name].default}
    return settings.model_dump(mode="json", exclude={"student", "name", *unset})


# --- surgery --------------------------------------------------------------------------------------


def operate(
    network: nn.Module,
    calibration: Batches,
    settings: NestConfig,
    *,
    on_layer: Told = lambda _: None,
) -> None:
    """Nest the network in place. Errors as ``students.nested.nest`` and ``biasable_layers``."""
    nest(
        network,
        settings.include,
        rank=settings.rank,
        init=settings.init,
        calibration=calibration,
        gauges=settings.gauges,
        on_layer=lambda _: on_layer(1),
    )
    if settings.own_biases:
        biasable_layers(network)  # refused before ranks are tried


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Trials:
    """Ranks of a nested network that are tried, each layer's by itself, and what they cost."""

    network: nn.Module
    batches: Batches
    ranks: Mapping[str, Sequence[int]]
    costs: Costs
    measured_at: str

    @property
    def passes(self) -> int:
        """Forward passes that trying takes; full ranks are not tried."""
        return len(self.batches) * (1 + sum(len(of) - 1 for of in self.ranks.values()))

    def path(
        self, floor: float, *, tried: Tried | None = None, on_forward: Told = lambda _: None
    ) -> NestedPath:
        """The path from full ranks down to a budget, 0 for all the way.

        ``tried`` holds what a call before this one found, and is given what this one finds.
        At most ``NORMED`` points where the network has BatchNorm. ``BudgetError`` for a floor out
        of reach, ``CalibrationError`` as ``sensitivities``.
        """
        damages = sensitivities(
            self.network, self.batches, self.ranks, tried=tried, on_forward=on_forward
        )
        path = find_path(
            self.network,
            damages,
            cost=self.costs.of_layer,
            share=self.costs.share,
            measured_at=self.measured_at,
        )
        path = down_to(path, floor) if floor else path
        return path.thinned(NORMED) if held_norms(self.network).of else path

    def alike(self, ranks: Sequence[int]) -> NestedPath:
        """The path of one rank for all layers: from the largest down through those of ``ranks``.

        Between them lie the ranks that would be tried of any layer. A smaller layer stays
        at its full rank. ``RankError`` for a rank no layer has, for one that saves nothing, and
        where none is below the largest.
        """
        tops = {name: layer.full_rank for name, layer in nested_layers(self.network).items()}
        largest = max(tops.values())
        for rank in ranks:
            if not 1 <= rank <= largest:
                raise RankError(f"ranks of layers are in 1..{largest} here, got {rank}")
        if min(ranks) == largest:
            raise RankError(
                f"rank {largest} is the whole network, which is taught anyway; name a lower one"
            )
        between = {r for of in self.ranks.values() for r in of if r > min(ranks)}
        wanted = sorted({largest, *between, *ranks}, reverse=True)
        path = nested_path(
            (_alike(rank, tops) for rank in wanted),
            share=self.costs.share,
            measured_at=self.measured_at,
        )
        for rank in sorted(set(ranks) - {largest}, reverse=True):
            if all(point.ranks != _alike(rank, tops) for point in path.points):
                bare = not any(layer.gauges for layer in nested_layers(self.network).values())
                raise RankError(
                    f"at rank {rank} the network costs as much as at a higher one; leave it out"
                    + (", or let layers run in gauge form (gauges)" if bare else "")
                )
        return path


def trials_of(
    network: nn.Module,
    example: tuple[dict[str, Tensor]],
    calibration: Batches,
    settings: NestConfig,
    *,
    batch: int = BATCH,
) -> Trials:
    """Ranks worth trying: those of ``settings.candidates`` a layer that cost less than any above.

    ``example`` is the one whose FLOPs are counted; calibration batches have ``batch`` rows.
    """
    costs = dense_costs(network, example)
    layers = nested_layers(network).items()
    ranks = {
        name: useful_ranks(
            candidate_ranks(layer.full_rank, count=settings.candidates),
            cost=partial(costs.of_layer, name),
        )
        for name, layer in layers
    }
    return Trials(
        network=network,
        batches=calibration[: -(-settings.probe // batch)],
        ranks=ranks,
        costs=costs,
        measured_at=measured_at(example[0]),
    )


def down_to(path: NestedPath, floor: float) -> NestedPath:
    """The path without its points below a budget; ``BudgetError`` for one out of its reach."""
    last = path.points.index(path.at(floor))
    return NestedPath(points=path.points[: last + 1], measured_at=path.measured_at)


def lessons_of(path: NestedPath, settings: NestConfig) -> NestedPath:
    """The points of a path that are taught, the dearest first.

    So many, and what each of the budgets pays for; or those of the ranks. ``BudgetError`` for a
    budget out of reach.
    """
    if not settings.ranks:
        wanted = (*path.thinned(settings.points).points, *map(path.at, settings.budgets))
        shares = {point.share for point in wanted}
        points = tuple(point for point in path.points if point.share in shares)
        return NestedPath(points=points, measured_at=path.measured_at)
    tops = path.points[0].ranks
    taught = [tops, *(_alike(rank, tops) for rank in settings.ranks)]
    points = tuple(point for point in path.points if point.ranks in taught)
    return NestedPath(points=points, measured_at=path.measured_at)


def _alike(rank: int, tops: Ranks) -> dict[str, int]:
    """One rank for all layers, as far as they have it."""
    return {name: min(rank, top) for name, top in tops.items()}


# --- rows -----------------------------------------------------------------------------------------


def calibration_of(feed: Feed, rows: int, *, seed: int, device: str) -> Batches:
    """Prepared batches of so many training examples, drawn by the seed; all where there are less.

    A last batch of one row joins its neighbour: BatchNorm cannot be measured on one.
    """
    chosen = np.random.default_rng([seed, 0x6E657374]).permutation(feed.rows)[:rows]
    order = batched(chosen, BATCH)
    at = torch.device(device)
    return [({n: t.to(at) for n, t in batch.inputs.items()},) for batch in feed.batches(order)]


def example_of(split: Split, prepare: Prepare) -> tuple[dict[str, Tensor]]:
    """One prepared example, of middling length among the first ones."""
    inputs = split.inputs
    some = sorted((inputs[row] for row in range(min(_MIDDLE, len(inputs)))), key=_length)
    return (dict(prepare([some[len(some) // 2]])),)


def measured_at(prepared: Mapping[str, Tensor]) -> str:
    """The input in words: "3 x 224 x 224", or "17 tokens"."""
    if "input_ids" in prepared:
        return f"{prepared['input_ids'].shape[1]} tokens"
    return " x ".join(str(size) for size in next(iter(prepared.values())).shape[1:])


def stored_rows(store: FeatureStore, split: Split) -> Stored:
    """Rows of a store beside the examples of a split, by id; ``StageError`` if they are others."""
    ids = store.ids()
    order = np.argsort(ids, kind="stable")
    known = ids[order]
    if not np.array_equal(known, np.sort(split.ids)) or len(np.unique(known)) != len(known):
        raise StageError(
            f"{store.path} holds other examples than the data ({split.name}: {len(ids)} rows "
            f"stored, {len(split.ids)} in the data); run extract and project again"
        )
    places = order[np.searchsorted(known, split.ids)].astype(np.int64)
    rows = StoreRows(store)
    return Stored(
        rows=lambda wanted: rows(places[wanted]),
        scale=spread(store),
        digest=store.digest,
        dim=store.spec.dim,
    )


# --- judging -------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Examiner:
    """How a nested network does on validation rows, with BatchNorm measured anew at each rank."""

    network: nn.Module
    feed: Feed
    labels: Int64[np.ndarray, " rows"]
    calibration: Batches
    device: str

    def evaluate(self, ranks: Ranks) -> Evaluation:
        """At these ranks; the network's own ranks and statistics stay as they were."""
        with using_ranks(self.network, ranks):
            norms = self.norms()
            if not norms.of:
                return evaluate_logits(self._logits(), self.labels)
            own = held_norms(self.network)
            load_norms(self.network, norms)
            try:
                return evaluate_logits(self._logits(), self.labels)
            finally:
                load_norms(self.network, own)

    def norms(self) -> NormStatistics:
        """Statistics at the ranks of here and now; none without BatchNorm."""
        return measure_norms(self.network, self.calibration)

    def norms_along(self, path: NestedPath) -> tuple[NormStatistics, ...]:
        """Statistics of each point of the path; none without BatchNorm."""
        if not held_norms(self.network).of:
            return ()
        found = []
        for point in path.points:
            with using_ranks(self.network, point.ranks):
                found.append(self.norms())
        return tuple(found)

    def _logits(self) -> Float32[np.ndarray, "rows classes"]:
        return forward_rows(self.network, self.feed, device=self.device)


def choosing(network: nn.Module) -> Callable[[nn.Module, Any], None]:
    """Set the ranks of this network, whatever stands around it."""

    def choose(_: nn.Module, ranks: Ranks) -> None:
        set_rank(network, ranks)

    return choose


def digest_of(network: nn.Module) -> str:
    """sha256 of everything the network holds, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        sha.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
        sha.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{sha.hexdigest()}"


def _length(example: Any) -> int:
    if isinstance(example, str):
        return len(example)
    return sum(map(len, example)) if isinstance(example, tuple | list) else 0
