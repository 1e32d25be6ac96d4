"""One experiment as frozen data: load, check, override, fingerprint, write.

Every setting has one default, here. Unknown keys and wrong values raise ``ConfigError`` with
the file, the key and what would be right, in one line.
"""

import difflib
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Scalar = bool | int | float | str
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Factor = Annotated[float, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class ConfigError(ValueError):
    """A setting is unknown or has a value it cannot have."""


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class DataConfig(Section):
    """Which examples, and how they are split."""

    name: str = "digits"
    text_columns: tuple[str, ...] = ()  # () finds them by feature type
    image_column: str = ""
    label_column: str = ""
    train_split: str = "train"
    validation_split: str = "validation"  # carved out of train where the data has none
    test_split: str = "test"  # likewise
    validation_share: Share = 0.15
    test_share: Share = 0.2
    seed: Natural = 0  # of the splits and of limit's choice
    limit: Natural = 0  # examples of each split at most; 0 takes all
    skip_bad: bool = False


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
    seed: Natural = 0  # of random weights


class TeachConfig(Section):
    """Teaching the teacher the task (``train-teacher``)."""

    epochs: Positive = 4
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 2e-3
    weight_decay: Weight = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1  # share of all steps
    seed: Natural = 0


class ExtractConfig(Section):
    """Running the teacher over the data."""

    batch_size: Positive = 64
    dtype: Literal["float32", "float16"] = "float32"  # of the stored rows


class ProjectConfig(Section):
    """Mapping the features to fewer dimensions."""

    kind: str = "gaussian"
    factors: tuple[Factor, ...] = (2, 4, 8, 16, 64, 256)
    seeds: tuple[Natural, ...] = (0,)

    @field_validator("factors", "seeds")
    @classmethod
    def _at_least_one(cls, values: tuple) -> tuple:
        if not values:
            raise ValueError("must name at least one")
        return values


class ValidateConfig(Section):
    """Measuring what the map did to distances."""

    neighbours: Positive = 10
    queries: Positive = 2000
    pairs: Positive = 20000
    eps: Share = 0.5
    seed: Natural = 0


class HeadConfig(Section):
    """Linear classifiers on stored features."""

    l2: tuple[PositiveFloat, ...] = (1e-4, 1e-3, 1e-2)
    max_iterations: Positive = 500


class StudentConfig(Section):
    """The compact network that learns the projected features."""

    name: str = "timm/resnet10t"
    weights: str = "random"  # "random", or a file
    options: dict[str, Any] = Field(
        default_factory=lambda: {"channels": [16, 32, 64, 128], "stem_width": 16}
    )
    factor: Factor = 16  # which projected store it learns
    image_size: Natural = 0  # 0: the teacher's
    loss: Literal["mse", "normalised-mse", "cosine"] = "mse"
    target_weight: Weight = 1.0
    kl_weight: Weight = 0.0
    ce_weight: Weight = 0.0
    temperature: PositiveFloat = 2.0
    epochs: Positive = 30
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 3e-3
    weight_decay: Weight = 0.05
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    baselines: bool = False
    seed: Natural = 0


class ComputeConfig(Section):
    """Where the work is done. Changes no result beyond rounding."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    workers: Natural = 0  # processes that read and prepare inputs


class Config(Section):
    """One experiment."""

    title: str = "Handwritten digits"
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    teach: TeachConfig = TeachConfig()
    extract: ExtractConfig = ExtractConfig()
    project: ProjectConfig = ProjectConfig()
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    head: HeadConfig = HeadConfig()
    student: StudentConfig = StudentConfig()
    compute: ComputeConfig = ComputeConfig()
