"""Tables of settings of what learns: students, their rivals, nested networks."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from distill.config.values import (
    Factor,
    Natural,
    Positive,
    PositiveFloat,
    Precision,
    Section,
    Seed,
    Share,
    ShareOrNone,
    SomeNames,
    Weight,
)


class StudentConfig(Section):
    """The compact network that learns the projected features."""

    name: str = "timm/resnet10t"
    weights: str = "random"  # "random", or a file
    options: dict[str, Any] = Field(
        default_factory=lambda: {"channels": [16, 32, 64, 128], "stem_width": 16}
    )
    embeddings: Literal["random", "teacher"] = "random"  # of tokens: cut from the teacher's
    budget: Share = 0.02  # share of the teacher's multiply-adds, for the student "auto"
    factor: Factor = 16  # which projected store it learns
    image_size: Natural = 0  # 0: the teacher's
    views: Annotated[int, Field(ge=-1)] = -1  # of each example; -1: all that are stored
    pool: bool = True  # learns the unlabeled examples too, where there are any
    way: Literal["subspace", "sketch"] = "subspace"  # answers in k numbers, or beside them
    # what is minimised
    loss: Literal["mse", "normalised-mse", "cosine", "fisher", "relational", "logsum"] = "mse"
    targets: Literal["raw", "standardised", "whitened"] = "raw"
    target_weight: Weight = 1.0
    kl_weight: Weight = 1.0
    ce_weight: Weight = 1.0
    temperature: PositiveFloat = 2.0
    decouple: Weight = 0.0  # of a sketch's KL, of other classes over the label's (DKD); 0: whole KL
    top_logits: Natural = 0  # of a row that the way "logits" of a comparison learns; 0: all
    fisher_ridge: Weight = 0.1  # share of Mahalanobis' metric beside that of the loss "fisher"
    prefixes: tuple[Positive, ...] = ()  # widths below k that must do as well by themselves
    shrink: Annotated[float, Field(ge=0, le=1)] = 0.0  # of targets towards their class mean
    average_views: bool = False  # targets are the mean over an example's views
    projector: Natural = 0  # hidden width of an MLP behind the student while it learns; 0: none
    head: Literal["carried", "tuned", "fresh"] = "tuned"
    calibrate: bool = False  # undo the shrinkage of least squares on validation rows
    # how
    epochs: Positive = 20
    batch_size: Positive = 32
    micro_batch: Natural = 0  # rows at a time, of which a batch is made; 0: the whole batch
    learning_rate: PositiveFloat = 3e-3
    weight_decay: Weight = 0.05
    warmup: ShareOrNone = 0.1
    clip: Weight = 10.0  # largest norm of the gradient; 0: any
    ema: ShareOrNone = 0.0  # decay of the averaged weights that are kept; 0: none
    patience: Natural = 0  # epochs without a better one before it stops; 0: never
    precision: Precision = "auto"
    compile: bool = False
    baselines: bool = False
    seed: Seed = 0


class CompareConfig(Section):
    """Ways to teach one student, side by side."""

    methods: SomeNames = ("labels", "logits", "subspace")
    trials: Positive = 4  # of a random search a method, each with seed 0
    seeds: Positive = 5  # fresh ones of each finalist
    reference: str = "subspace"  # the method that all others are compared with
    finalists: Natural = 0  # methods that get fresh seeds, the reference among them; 0: all
    always: tuple[str, ...] = ()  # of the methods, those that are finalists whatever was found
    seed: Seed = 0  # of the search


class NestConfig(Section):
    """Turning a trained network into one of any budget (``nest``)."""

    student: str = ""  # a trained student of the run; "": its teacher
    name: str = ""  # of the result; "": that of the network, then what is nested
    include: SomeNames = ("mlp",)  # presets or patterns of layers; those after "!" are left out
    rank: Annotated[int | float | str, Field(union_mode="left_to_right")] = "full"
    init: Literal["svd", "whitened"] = "whitened"
    calibration: Positive = 256  # training examples that moments and statistics are measured on
    probe: Positive = 128  # of them, those that ranks are tried on
    candidates: Annotated[int, Field(ge=2)] = 8  # ranks of each layer that are tried
    points: Annotated[int, Field(ge=2)] = 8  # of the path that are taught
    budgets: tuple[Share, ...] = ()  # shares of dense FLOPs that are taught beside those points
    own_biases: bool = False  # whether each rank that is taught has biases of its own
    gauges: bool = False  # whether layers may run in gauge form: fewer FLOPs, but more time
    ranks: tuple[Positive, ...] = ()  # of all layers alike, which are taught; (): a path finds them
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0  # smallest budget; 0: as far as ranks go
    # what is learned at each rank
    targets: Literal["labels", "projected"] = "labels"
    weighing: Literal["equal", "uncertainty", "clamped", "log-sum"] = "equal"
    sampling: Literal["sandwich", "uniform", "widening", "every"] = "sandwich"
    over: Annotated[float, Field(gt=0, le=1)] = 0.5  # share of the steps that "widening" takes
    distill: Literal["none", "anchor", "dense"] = "anchor"
    kl_weight: Weight = 1.0
    temperature: PositiveFloat = 1.0
    hint_weight: Weight = 0.0  # of what the dense network's layers give on the way
    # how
    augment: str = ""  # a new view of every example each epoch, of this kind …
    mix: Literal["none", "mixup", "cutmix"] = "none"  # … joined with another's: no labels then
    epochs: Positive = 5
    batch_size: Positive = 32
    micro_batch: Natural = 0
    learning_rate: PositiveFloat = 2e-4
    weight_decay: Weight = 0.01
    warmup: ShareOrNone = 0.1
    clip: Weight = 10.0
    ema: ShareOrNone = 0.0
    patience: Natural = 0
    precision: Precision = "auto"
    seed: Seed = 0

    @field_validator("ranks", "budgets")
    @classmethod
    def _falling(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(sorted(set(value), reverse=True))

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.ranks and self.floor:
            raise ValueError(
                "say floor or ranks, not both: the lowest of the ranks is the floor (--floor 0, or "
                "--ranks '')"
            )
        if self.ranks and self.budgets:
            raise ValueError(
                "say budgets or ranks, not both: ranks are taught, and nothing else ([nest] "
                "budgets = [], of `distill nest` --budgets '' too; or --ranks '')"
            )
        if low := [budget for budget in self.budgets if budget < self.floor]:
            raise ValueError(f"a budget of {low[0]:g} is below the floor of {self.floor:g}")
        return self

    @model_validator(mode="after")
    def _learned_alone(self) -> Self:
        if self.targets == "labels":
            return self
        if self.hint_weight:
            raise ValueError(
                "projected rows are learned in place of what the dense network says: set "
                "hint_weight to 0, or learn labels"
            )
        if self.augment:
            raise ValueError(
                "projected rows are of the examples as they are, and not of their views: leave out "
                "augment (--augment ''), or learn labels"
            )
        return self

    @model_validator(mode="after")
    def _unmixed(self) -> Self:
        if self.mix == "none":
            return self
        if not self.augment:
            raise ValueError(f"{self.mix} joins two views: name their kind with augment")
        if self.distill != "dense" or not self.kl_weight:
            raise ValueError(
                "what joins two examples has no label, and is learned from the dense network "
                'alone: set distill to "dense" and kl_weight above 0, or mix to "none"'
            )
        return self

    @field_validator("rank", mode="before")
    @classmethod
    def _rank(cls, value: Any) -> Any:
        """Reads 64, 0.5 and full, as a number or as text."""
        text = str(value)
        if text == "full":
            return value
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        if re.fullmatch(r"-?\d*\.\d+", text):
            return float(text)
        raise ValueError("must be a number like 64, a share like 0.5, or full")


class FrontierConfig(Section):
    """Accuracy of a nested network against budget and time, beside its rivals."""

    rivals: tuple[str, ...] = ("svd", "whitened", "one-rank", "width", "half", "longer")
    points: Positive = 12  # at least so many budgets of a network that has several
    budgets: tuple[Share, ...] = (0.35, 0.5)  # among them these, where they are in reach
    seeds: Positive = 3  # of the nested network
    rival_seeds: Positive = 3  # of rivals that are taught, but for the next
    rank_networks: Positive = 4  # budgets at which a network of its own is taught, of one seed
    tolerance: Share = 0.01  # accuracy that the budget picked may lose
    batches: tuple[Positive, ...] = (1, 32)  # that are timed
    repeats: Natural = 50  # rounds of timed calls; 0 times nothing
    seconds: PositiveFloat = 300.0  # of timing at a batch size, as long as 3 rounds take less


class LanguageConfig(Section):
    """A causal language model that is nested (``nest-lm``)."""

    model: str = ""  # a folder of transformers, or a hub name
    tokens: Annotated[int, Field(ge=2)] = 256  # of a window
    label_weight: Weight = 0.0  # of the next tokens, beside what the dense model says of them
