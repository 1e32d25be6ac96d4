"""Terms beside cross-entropy that the paper's ablation names, and a loss that adds one up.

The paper's table (arXiv 2509.17874, CIFAR-10) says "hard orthogonality", "logit match", "residual
orthogonality" and "hidden match", and we have no formula of theirs: each is read here as simply as
its name allows. With h_k the outputs of a hidden layer at rank k, R the anchor's and r a variant's:

- orthogonality: ‖A Aᵀ - I‖² + ‖Bᵀ B - I‖², the squares of all entries, of both hidden layers;
- logit match: KL(softmax(anchor) ‖ softmax(variant)), or the squared error of the logits;
- residual orthogonality: cos²(h_r, h_R - h_r), before the ReLU, mean over rows and hidden layers;
- hidden match: squared error of relu(h_r) to relu(h_R), mean over numbers and hidden layers.

Of a variant's rank they count within its weighing, as distillation does (``NestedRecipe``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from students.losses import cross_entropy, kl
from students.nested import ANCHOR, Learning, NestedLinear, set_rank
from students.nested.hints import hearing
from students.nested.objective import weighed_loss

HIDDEN_LAYERS = ("first", "second")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What one pass over a batch gave."""

    logits: Float[Tensor, "rows classes"]
    hidden: tuple[Float[Tensor, "rows width"], ...]  # of each hidden layer, before its ReLU

    def detached(self) -> "Answer":
        """The same, which leads back to nothing."""
        return Answer(
            logits=self.logits.detach(), hidden=tuple(each.detach() for each in self.hidden)
        )


Term = Callable[[nn.Module, Answer, Answer], Tensor]  # network, variant's, anchor's -> scalar


# --- terms ----------------------------------------------------------------------------------------


def orthogonality(network: nn.Module, variant: Answer, anchor: Answer) -> Float[Tensor, ""]:
    """How far rows of A and columns of B are from orthonormal; 0 where they are."""
    del variant, anchor
    grams = [
        gram
        for layer in factored_layers(network)
        for gram in (layer.down @ layer.down.T, layer.up.T @ layer.up)
    ]
    return torch.stack([(gram - torch.eye(len(gram))).square().sum() for gram in grams]).sum()


def residual_orthogonality(
    network: nn.Module, variant: Answer, anchor: Answer
) -> Float[Tensor, ""]:
    """Squared cosine of what a variant has and what it leaves of the anchor's. In [0, 1]."""
    del network
    pairs = zip(variant.hidden, anchor.hidden, strict=True)
    return torch.stack(
        [functional.cosine_similarity(some, whole - some).square().mean() for some, whole in pairs]
    ).mean()


def hidden_match(network: nn.Module, variant: Answer, anchor: Answer) -> Float[Tensor, ""]:
    """Squared error of a variant's hidden features to the anchor's."""
    del network
    pairs = zip(variant.hidden, anchor.hidden, strict=True)
    return torch.stack(
        [functional.mse_loss(some.relu(), whole.relu()) for some, whole in pairs]
    ).mean()


def logit_error(network: nn.Module, variant: Answer, anchor: Answer) -> Float[Tensor, ""]:
    """Squared error of a variant's logits to the anchor's, mean over numbers."""
    del network
    return functional.mse_loss(variant.logits, anchor.logits)


def logit_divergence(network: nn.Module, variant: Answer, anchor: Answer) -> Float[Tensor, ""]:
    """KL(softmax(anchor) ‖ softmax(variant)), mean over rows."""
    del network
    return kl(variant.logits, anchor.logits, 1.0)


def factored_layers(network: nn.Module) -> list[NestedLinear]:
    """The two hidden layers."""
    found = [network.get_submodule(name) for name in HIDDEN_LAYERS]
    return [layer for layer in found if isinstance(layer, NestedLinear)]


@torch.no_grad()
def make_orthonormal(network: nn.Module) -> None:
    """Rows of A and columns of B become the nearest orthonormal ones, in place."""
    for layer in factored_layers(network):
        for factor in (layer.down, layer.up):
            left, _, right = torch.linalg.svd(factor, full_matrices=False)
            factor.copy_(left @ right)


# --- a loss ---------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, kw_only=True)
class Extra:
    """What a row of the ablation has beside cross-entropy."""

    terms: Mapping[Term, float] = field(default_factory=dict)  # weights, of a step's last rank
    anchor_moves: bool = False  # towards the variant, by the terms; or they hold it fixed
    orthonormal: bool = False  # factors are made so before each step
    told: bool = True  # a variant learns the labels too; or the terms alone


@final
class ExtraPasses:
    """A step's losses of labels, with the terms of an ``Extra``; made as ``RankPasses`` is.

    Both passes drop the same numbers, so that a variant differs from its anchor by its rank alone.
    Their graphs are kept until both are there, as the anchor may move too.
    """

    def __init__(
        self,
        learning: Learning,
        settings: Sequence[Any],
        *,
        extra: Extra,
        on_figures: Callable[[int, int, Mapping[str, float]], None],
    ) -> None:
        self.learning = learning
        self.settings = tuple(settings)
        self.extra = extra
        self.on_figures = on_figures

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
        network, objective = self.learning.network, self.learning.objective
        if self.extra.orthonormal:
            make_orthonormal(network)
        places, chances = objective.places(at), torch.get_rng_state()
        answers, weighed = [], []
        for place in places:
            torch.set_rng_state(chances)
            set_rank(network, self.settings[place])
            with hearing(network, HIDDEN_LAYERS) as heard:
                logits = forward(inputs)
            hidden = tuple(heard[name][0] for name in HIDDEN_LAYERS)
            answers.append(Answer(logits=logits, hidden=hidden))
            loss = self._loss(answers, targets["labels"], last=place == places[-1])
            one, weight = loss, torch.ones_like(loss)
            if objective.log_variances is not None:
                one, weight = weighed_loss(loss, objective.log_variances[place])
            weighed.append(one)
            figures = {"loss": float(loss.detach()), "weight": float(weight.detach())}
            self.on_figures(at, place, figures)
        set_rank(network, self.settings[ANCHOR])
        total = torch.stack(weighed).sum()
        backward(total)
        return total.detach()

    def _loss(self, answers: Sequence[Answer], labels: Tensor, *, last: bool) -> Tensor:
        """Of the last answer so far; the first is the anchor's."""
        variant, anchor = answers[-1], answers[0]
        aim = anchor if self.extra.anchor_moves else anchor.detached()
        told = self.extra.told or len(answers) == 1
        loss = cross_entropy(variant.logits, labels) if told else torch.zeros(())
        for term, weight in self.extra.terms.items() if last else ():
            loss = loss + weight * term(self.learning.network, variant, aim)
        return loss
