"""Tables of settings: data, teacher, and what is done with its features."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from distill.config.values import (
    Factor,
    Folds,
    Natural,
    Positive,
    PositiveFloat,
    Precision,
    Scalar,
    Section,
    Seed,
    Share,
    ShareOrNone,
    SomeFactors,
    SomeNames,
    SomePenalties,
    SomeSeeds,
    Weight,
)


class DataConfig(Section):
    """Which examples, and how they are split."""

    name: str = "digits"
    text_columns: tuple[str, ...] = ()  # () finds them by feature type
    image_column: str = ""
    label_column: str = ""
    labelled: bool = True  # false: the inputs alone, whatever labels there are
    train_split: str = "train"
    validation_split: str = "validation"  # carved out of train where the data has none
    test_split: str = "test"  # likewise
    validation_share: Share = 0.15
    test_share: Annotated[Share, Field(validate_default=True)] = 0.2
    seed: Seed = 0  # of the splits and of limit's choice
    limit: Natural = 0  # examples of each split at most; 0 takes all
    skip_bad: bool = False

    @field_validator("test_share")
    @classmethod
    def _leaves_training_rows(cls, test: float, info: ValidationInfo) -> float:
        validation = info.data.get("validation_share", 0.0)  # not there if it is wrong itself
        if validation + test >= 1:
            raise ValueError(
                f"must leave a share to train on: with validation_share = {validation:g} it makes "
                f"{validation + test:g}"
            )
        return test


class TeacherConfig(Section):
    """Which network makes the features, and of what."""

    name: str = "timm/resnet50"
    weights: str = "pretrained"  # "pretrained", "random", or a file
    image_size: Natural = 0  # 0: what the weights were made for
    pooling: Literal["mean", "cls", "pooler"] = "mean"  # text only
    max_length: Positive = 128  # tokens, text only
    layer: str = ""  # an inner module to tap instead of the penultimate feature
    options: dict[str, Scalar] = Field(default_factory=dict)  # for the network's constructor
    preprocessing: dict[str, Any] = Field(default_factory=dict)  # over what the weights say
    taught: bool = False  # whether this run teaches it the task before its features are taken
    seed: Seed = 0  # of random weights


class TeachConfig(Section):
    """Teaching the teacher the task (``train-teacher``)."""

    epochs: Positive = 4
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 1e-4  # fits pretrained weights; random ones want 2e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Weight = 0.01
    warmup: ShareOrNone = 0.1  # share of all steps
    augment: str = ""  # a new view of every example each epoch; "": the examples as they are
    precision: Precision = "auto"  # of the products
    folds: Folds = 0  # as many teachers more, each without one fold of the training examples
    seed: Seed = 0


class ExtractConfig(Section):
    """Running the teacher over the data."""

    batch_size: Positive = 64
    dtype: Literal["float32", "float16"] = "float32"  # of the stored rows
    held_out: bool = False  # training rows as teachers see them that never learned them
    unlabeled: str = ""  # data whose labels are not used: a further split, for students
    factor: Factor = 1  # above 1 the features are mapped as they are made, and only that is kept
    kind: str = "gaussian"  # of that map: one drawn from a seed
    seed: Seed = 0  # of that map


class ViewsConfig(Section):
    """Augmented views of the training examples, seen by the teacher and by students alike."""

    count: Natural = 0  # of each example, beside the example itself
    augment: str = "crop-flip"  # or crop, strong, …; text: token-dropout
    mix: Literal["none", "mixup", "cutmix"] = "none"  # images only
    seed: Seed = 0


class ProjectConfig(Section):
    """Mapping the features to fewer dimensions."""

    kind: str = "gaussian"
    dtype: Literal["float32", "float16"] = "float32"  # of the stored rows
    factors: SomeFactors = (2, 4, 8, 16)
    seeds: SomeSeeds = (0,)


class ValidateConfig(Section):
    """Measuring what the map did to distances."""

    neighbours: Positive = 10
    queries: Positive = 2000
    pairs: Positive = 20000
    eps: Share = 0.5
    seed: Seed = 0


class HeadConfig(Section):
    """Linear classifiers on stored features."""

    l2: SomePenalties = (1e-4, 1e-3, 1e-2)
    max_iterations: Positive = 500


class SweepConfig(Section):
    """How far the features can be compressed, and by which map."""

    kinds: SomeNames = (
        "gaussian", "orthogonal", "sparse", "hadamard", "pca", "discriminant", "head-svd",
        "learned",
    )  # fmt: skip
    factors: SomeFactors = (1, 2, 4, 8, 12, 16, 32, 64)
    seeds: Positive = 5
    tolerance: Share = 0.01  # accuracy that may be lost
    memory_limit: Natural = 0  # bytes for rows and what is made of them; 0: half of what is free
    shipped: Literal["head", "embedding"] = "head"  # by which a width is charged
    neighbours: Positive = 10  # that recall counts

    @field_validator("memory_limit", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        """Reads 4GB, 512 MB; units of 1000, as everywhere here."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", str(value), re.IGNORECASE)
        if found is None:
            raise ValueError("must be a number of bytes like 4GB or 512MB")
        return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))


class ComputeConfig(Section):
    """Where the work is done. Changes no result beyond rounding."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    workers: Natural = 0  # processes that read and prepare inputs
