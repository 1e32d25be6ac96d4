"""Training a nested network in the one training loop: several ranks a step, validated at each.

``RankPasses`` is the loss that ``students.fit`` runs in passes; what it learns of the ranks
themselves lies in the objective, which is a module beside the network in ``Learning``. ``Witness``
is the dense network that is asked of each batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from students.nested.calibration import mask_of
from students.nested.errors import NestedError
from students.nested.hints import Heard, hearing, hint_loss
from students.nested.objective import NestedObjective
from students.nested.ranks import Ranks, set_rank, using_ranks
from students.precision import autocast, working_type
from students.recipe import Evaluation


@final
class Learning(nn.Module):
    """What the optimiser moves: a nested network, and what its objective learns of the ranks."""

    def __init__(self, network: nn.Module, objective: NestedObjective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, prepared: Any) -> Any:
        """What the network gives at the ranks it has now."""
        return self.network(prepared)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Witness:
    """The dense network, asked of each batch: for its logits, and for what its layers give.

    ``spreads`` are those of ``hint_spreads`` of the layers whose outputs are learned; no hints
    without. ``counterparts`` names, for each of them, the layer of the network that learns.
    ``precision`` is that of its products, as a ``Recipe`` says it; what it says is float32.
    """

    dense: nn.Module
    precision: str = "float32"
    spreads: Mapping[str, float] = field(default_factory=dict)
    counterparts: Mapping[str, str] = field(default_factory=dict)

    @torch.no_grad()
    def say(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Heard]:
        """Its logits, and what its layers give on the way."""
        device = next(iter(inputs.values())).device
        products = autocast(working_type(self.precision, device), device)
        with hearing(self.dense, self.counterparts) as heard, products:
            logits: Tensor = self.dense(inputs)
        return logits.float(), heard

    def compared(
        self,
        network: nn.Module,
        forward: Callable[[dict[str, Tensor]], Any],
        inputs: dict[str, Tensor],
        wanted: Heard,
    ) -> dict[str, Any]:
        """What the network gives by its names, and its hint loss."""
        with hearing(network, self.counterparts.values()) as found:
            outputs = forward(inputs)
        if torch.is_grad_enabled():
            _refuse_deaf(network, found)
        loss = hint_loss(
            found, wanted, self.spreads, counterparts=self.counterparts, mask=mask_of(inputs)
        )
        named = outputs if isinstance(outputs, Mapping) else {"logits": outputs}
        return {**named, "hints": loss}


def _refuse_deaf(network: nn.Module, found: Heard) -> None:
    """``NestedError`` for a layer that learns and whose outputs lead back to nothing."""
    for name, outputs in found.items():
        learns = any(each.requires_grad for each in network.get_submodule(name).parameters())
        if learns and not all(output.requires_grad for output in outputs):
            raise NestedError(
                f"{name} runs without gradients, and cannot learn what its counterpart gives: use "
                "gradient checkpointing with use_reentrant=False, or set the weight of hints to 0"
            )


@final
class RankPasses:
    """The loss of a step: the network at each rank setting that the step draws.

    ``settings`` are ranks for all layers or by their names, the highest first; the first is the
    anchor, which the network is left at. Told of what each rank gave, ``on_figures`` gets the
    setting's place with ``loss``, ``weight`` and the terms, as floats; it waits for the device.
    ``choose`` sets a setting: of ranks, or of what else a network has several of. ``witness``
    answers each batch first: what it says is the target ``logits``, and with its counterparts the
    outputs, which are logits where they are one tensor, have their hint loss beside them (layers of
    a compiled network are not heard, and that is refused).
    ``NestedError`` for another number of settings than the objective has.
    """

    def __init__(
        self,
        learning: Learning,
        settings: Sequence[Any],
        *,
        on_figures: Callable[[int, int, Mapping[str, float]], None] | None = None,
        choose: Callable[[nn.Module, Any], None] = set_rank,
        witness: Witness | None = None,
    ) -> None:
        if len(settings) != learning.objective.count:
            raise NestedError(
                f"the objective is of {learning.objective.count} rank settings, and there are "
                f"{len(settings)}"
            )
        self.learning = learning
        self.settings = tuple(settings)
        self.on_figures = on_figures
        self.choose = choose
        self.witness = witness

    def gradient(
        self,
        forward: Callable[[dict[str, Tensor]], Any],
        inputs: dict[str, Tensor],
        targets: dict[str, Tensor],
        *,
        at: int,
        backward: Callable[[Tensor], None],
    ) -> Tensor:
        """As ``students.stepping.Passes`` says."""
        network, witness = self.learning.network, self.witness
        heard: Heard = {}
        if witness is not None:
            logits, heard = witness.say(inputs)
            targets = {**targets, "logits": logits}

        def call(place: int) -> Any:
            # not within ``using_ranks``: what recomputes in backward needs the rank still
            self.choose(network, self.settings[place])
            if witness is None or not witness.counterparts:
                return forward(inputs)
            return witness.compared(network, forward, inputs, heard)

        try:
            found = self.learning.objective.step(call, targets, at=at, backward=backward)
        finally:
            self.choose(network, self.settings[0])
        if self.on_figures is not None:
            for one in found.ranks:
                told = {"loss": one.loss, "weight": one.weight, **one.terms}
                self.on_figures(at, one.place, {k: float(v) for k, v in told.items()})
        return found.loss


def evaluate_ranks(
    network: nn.Module,
    settings: Mapping[str, Ranks],
    evaluate: Callable[[nn.Module], Evaluation],
) -> Evaluation:
    """The mean over rank settings, and the accuracy and loss of each by its name.

    An epoch is better than another when it is so on average, as every rank may be asked for.
    """
    found = {}
    for name, setting in settings.items():
        with using_ranks(network, setting):
            found[name] = evaluate(network)
    return averaged(found)


def averaged(found: Mapping[str, Evaluation]) -> Evaluation:
    """The mean of evaluations, each also by its name among the measures."""
    measures = {
        f"{what}@{name}": float(getattr(one, what))
        for name, one in found.items()
        for what in ("accuracy", "loss")
    }
    accuracies, losses = ([getattr(e, w) for e in found.values()] for w in ("accuracy", "loss"))
    mean_accuracy, mean_loss = (sum(v) / len(v) for v in (accuracies, losses))
    return Evaluation(accuracy=mean_accuracy, loss=mean_loss, measures=measures)
