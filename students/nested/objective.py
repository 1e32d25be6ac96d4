"""Objectives that teach a network several ranks in one step, one rank's loss after the other.

The paper's (arXiv 2509.17874, section 4), of the anchor R and one variant r < R drawn each step:

    L = [exp(-s_R) CE(R) + s_R] + [exp(-s_r) CE(r) + s_r],   s_k = log sigma_k² learned per rank.

Where s is best, exp(-s_k) = 1 / CE(k): what is learned is then the sum of log CE(k), in which hard,
low ranks weigh little, and the anchor without bound once it knows its rows by heart. Beside it
stand the other weighings of ``students.nested.recipe``, and terms of distillation beside CE.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from students.distances import mse
from students.losses import UNLABELLED, cross_entropy, kl
from students.nested.curriculum import Places, sampler
from students.nested.errors import NestedError
from students.nested.recipe import ANCHOR, NestedRecipe

_SMALLEST = 1e-6  # a loss below has no log worth the name: float32 gives 0 for a row known by heart

Outputs = Tensor | Mapping[str, Tensor]


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


# --- terms ----------------------------------------------------------------------------------------


def label_loss(
    logits: Float[Tensor, "*rows classes"], labels: Int64[Tensor, "*rows"]
) -> Float[Tensor, ""]:
    """-log softmax(logits)[label], averaged over rows, or positions of texts, of a label.

    A label below 0 is none: -1 of a row, -100 of a text. Those of texts stand where they are to be
    told, already shifted by one.
    """
    return cross_entropy(logits.flatten(0, -2), labels.flatten().clamp_min(UNLABELLED))


def soft_loss(
    logits: Float[Tensor, "*rows classes"],
    aim: Float[Tensor, "*rows classes"],
    mask: Bool[Tensor, "*rows"] | None,
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """T² KL(softmax(aim / T) ‖ softmax(logits / T)), averaged over rows or positions of the mask.

    No mask counts all of them.
    """
    found, wanted = ((x.flatten(0, -2) if mask is None else x[mask]) for x in (logits, aim))
    return kl(found, wanted, temperature)


def weighed_loss(
    loss: Float[Tensor, ""], log_variance: Float[Tensor, ""]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """exp(-s) loss + s, and exp(-s); least, for a given loss, at s = log loss.

    Kendall et al., arXiv 1705.07115, without the factor 1/2.
    """
    weight = (-log_variance).exp()
    return torch.addcmul(log_variance, weight, loss), weight


# --- a step ---------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RankFigures:
    """What one rank gave in one step, as numbers still on the device."""

    place: int
    loss: Tensor  # of its terms, not yet weighed
    weight: Tensor  # of this loss in the gradient: exp(-s), 1, or 1 / loss
    terms: Mapping[str, Tensor]  # cross_entropy, kl, distance, hints: those it has


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class StepFigures:
    """The whole loss of a step, and the figures of each rank it trained, the anchor's first."""

    loss: Tensor
    ranks: tuple[RankFigures, ...]


@final
class NestedObjective(nn.Module):
    """The loss of a network at the ranks of each step. Its own parameters, if any, are the s_k.

    They are 0 at first, one for each of the ``count`` settings, learned with those of the network
    (weight decay would draw them to 0), ``pace`` times as fast: a rate that suits trained weights
    hardly moves them. Draws depend on ``seed`` and on the step alone.
    """

    log_variances: nn.Parameter  # of "uncertainty" and "clamped"; the others have none

    def __init__(
        self, recipe: NestedRecipe, *, count: int, steps: int, seed: int, pace: float = 1.0
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.count = count
        self.places: Callable[[int], Places] = sampler(
            recipe.sampling, count=count, seed=seed, steps=steps, over=recipe.over
        )
        learned = recipe.weighing in {"uncertainty", "clamped"}
        start = nn.Parameter(torch.zeros(count)) if learned else None
        if start is not None and pace != 1.0:
            start.pace = pace  # type: ignore[attr-defined]
        self.register_parameter("log_variances", start)

    def step(
        self,
        call: Callable[[int], Outputs],
        targets: Mapping[str, Tensor],
        *,
        at: int,
        backward: Callable[[Tensor], None] = _backward,
    ) -> StepFigures:
        """Add the gradient of step ``at`` (from 0) to every parameter's, one rank after the other.

        ``call`` gives what the network makes of this batch at a place in the list of settings:
        logits (rows, classes) or (batch, seq, vocab), rows (rows, k), or both by the names
        ``logits`` and ``rows``, beside them the hint loss as ``hints``. ``targets`` holds, where
        they have a weight, ``labels``, ``logits`` of the dense network and ``targets`` (rows, k),
        and, for texts whose padding must not count, ``mask``. The graph of a rank is gone before
        the next one runs. ``backward`` may scale the loss first: to a share of the batch (exact but
        for "log-sum") or for float16.
        """
        self._clamp()
        anchor: Tensor | None = None
        figures: list[RankFigures] = []
        total: list[Tensor] = []
        for place in self.places(at):
            outputs = call(place)
            terms = self._terms(place, outputs, targets, anchor)
            if place == ANCHOR and self.recipe.distill == "anchor":
                anchor = self._part(outputs, "logits").detach()
            del outputs
            loss = _sum(terms.values())
            weighed, weight = self._weighed(loss, place)
            backward(weighed)
            total.append(weighed.detach())
            figures.append(
                RankFigures(
                    place=place,
                    loss=loss.detach(),
                    weight=weight.detach(),
                    terms={name: term.detach() for name, (_, term) in terms.items()},
                )
            )
            del terms, loss, weighed
        return StepFigures(loss=torch.stack(total).sum(), ranks=tuple(figures))

    @torch.no_grad()
    def _clamp(self) -> None:
        """Bring back what the optimiser moved out of the range.

        Clamping within the loss would not do: out there s has no gradient, and never came back.
        """
        if self.recipe.weighing == "clamped":
            self.log_variances.clamp_(self.recipe.lowest, self.recipe.highest)

    def _weighed(self, loss: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """The loss as it is summed, and the weight that its gradient has."""
        if self.recipe.weighing == "equal":
            return loss, torch.ones_like(loss)
        if self.recipe.weighing == "log-sum":
            floored = loss.clamp_min(_SMALLEST)
            return floored.log(), 1 / floored
        return weighed_loss(loss, self.log_variances[place])

    def _terms(
        self,
        place: int,
        outputs: Outputs,
        targets: Mapping[str, Tensor],
        anchor: Tensor | None,
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term of the rank at ``place``."""
        recipe = self.recipe
        found: dict[str, tuple[float, Tensor]] = {}
        if recipe.ce_weight:
            ce = label_loss(self._part(outputs, "logits"), _aim(targets, "labels"))
            found["cross_entropy"] = (recipe.ce_weight, ce)
        if weight := recipe.kl_of(place):
            aim = _aim(targets, "logits") if anchor is None else anchor
            logits, mask = self._part(outputs, "logits"), targets.get("mask")
            found["kl"] = (weight, soft_loss(logits, aim, mask, temperature=recipe.temperature))
        if recipe.target_weight:
            rows, aims = self._part(outputs, "rows"), _aim(targets, "targets")
            distance = _distance(rows / recipe.scale, aims / recipe.scale)
            found["distance"] = (recipe.target_weight, distance)
        if recipe.hint_weight:
            found["hints"] = (recipe.hint_weight, self._part(outputs, "hints"))
        return found

    def _part(self, outputs: Outputs, name: str) -> Tensor:
        """The named part in float32; a network that gives one tensor gives all that is asked."""
        if isinstance(outputs, Tensor):
            asked = (self.recipe.target_weight, self.recipe.needs_logits, self.recipe.hint_weight)
            if sum(map(bool, asked)) > 1:
                raise NestedError(
                    "more than one of rows, logits and hints is to be learned, and the network "
                    "gives one"
                )
            return outputs.float()
        if name not in outputs:
            raise NestedError(f"{name} are to be learned, and the network gives {sorted(outputs)}")
        return outputs[name].float()


def _sum(terms: Iterable[tuple[float, Tensor]]) -> Tensor:
    # a product with 1 and a sum with nothing cost a small network's step a hundredth each
    weighed = (term if weight == 1.0 else weight * term for weight, term in terms)
    return reduce(torch.add, weighed)


def _aim(targets: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in targets:
        raise NestedError(f"{name} are to be learned, and the batch has {sorted(targets)}")
    return targets[name]


def _distance(rows: Tensor, aims: Tensor) -> Tensor:
    if rows.shape != aims.shape:
        raise NestedError(
            f"the network gives rows of shape {tuple(rows.shape)}, and their targets have "
            f"{tuple(aims.shape)}"
        )
    return mse(rows, aims)
