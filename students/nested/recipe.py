"""How a network learns its ranks: what each rank's loss is made of, and what each loss weighs."""

from dataclasses import dataclass
from typing import final

from students.errors import nearest
from students.nested.curriculum import sampler
from students.nested.errors import NestedError

WEIGHINGS = ("uncertainty", "clamped", "equal", "log-sum")
DISTILLATIONS = ("none", "anchor", "dense")
ANCHOR = 0  # its place in the list of settings

# Within it the paper's objective is untouched for losses of 0.37 to 2.7. Beyond, no rank outweighs
# another more than e² = 7.4 times: wider ranges starve low ranks, and gain the anchor little.
_LOWEST, _HIGHEST = -1.0, 1.0


@final
@dataclass(frozen=True, kw_only=True)
class NestedRecipe:
    """What each rank learns, how ranks are weighed, and which are drawn.

    A rank's loss is ce_weight · CE + kl_weight · T² KL + target_weight · mse / scale² +
    hint_weight · hint loss (``students.nested.hints``), the KL being to the logits of the anchor
    ("anchor": for the variants alone) or to those of the dense network ("dense": for the anchor
    too). Distillation counts inside the weighing: a rank without labels has a loss nevertheless.

    ``weighing`` is "uncertainty" (the paper's), "clamped" (the same with s kept within
    ``lowest`` to ``highest``), "equal" (all 1), or "log-sum" (the sum of logs of the losses).
    ``NestedError`` for what is not known or cannot be.
    """

    weighing: str = "uncertainty"
    sampling: str = "widening"  # or "uniform", "sandwich", "every": .curriculum
    over: float = 0.5  # share of the steps over which "widening" opens its variants
    distill: str = "none"
    ce_weight: float = 1.0
    kl_weight: float = 1.0  # of "anchor" and "dense"
    temperature: float = 1.0
    target_weight: float = 0.0  # of stored projected features
    scale: float = 1.0  # the one number by which targets are divided
    hint_weight: float = 0.0  # of what layers of the dense network give on the way
    lowest: float = _LOWEST  # of s, where it is clamped
    highest: float = _HIGHEST

    def __post_init__(self) -> None:
        for what, name, known in (
            ("weighing of ranks", self.weighing, WEIGHINGS),
            ("distillation of ranks", self.distill, DISTILLATIONS),
        ):
            if name not in known:
                raise NestedError(f"no {what} named {name!r}{nearest(name, known)}")
        sampler(self.sampling, count=1, seed=0, steps=1, over=self.over)
        if not (self.temperature > 0 and self.scale > 0):
            raise NestedError(
                f"temperature and scale must be above 0, got {self.temperature} and {self.scale}"
            )
        weights = (self.ce_weight, self.kl_weight, self.target_weight, self.hint_weight)
        if not all(weight >= 0 for weight in weights):
            raise NestedError(f"weights of losses must not be below 0, got {weights}")
        if not self.lowest < self.highest:
            raise NestedError(f"s is clamped to a range, got {self.lowest} to {self.highest}")
        if not (self.ce_weight or self.target_weight or self.hint_weight or self.kl_of(ANCHOR)):
            raise NestedError(
                "the anchor has nothing to learn from: give ce_weight, target_weight, hint_weight, "
                "or kl_weight with distill 'dense'"
            )

    def kl_of(self, place: int) -> float:
        """Weight of the KL of the rank at ``place``."""
        taught = self.distill == "dense" or (self.distill == "anchor" and place != ANCHOR)
        return self.kl_weight if taught else 0.0

    @property
    def needs_dense(self) -> bool:
        """Whether logits of the dense network are learned."""
        return self.kl_of(ANCHOR) > 0

    @property
    def needs_logits(self) -> bool:
        """Whether the network must give logits."""
        return bool(self.ce_weight or (self.distill != "none" and self.kl_weight))
