"""What a setting may be, and what a table of settings is."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Scalar = bool | int | float | str
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]  # as torch takes them
Share = Annotated[float, Field(gt=0, lt=1)]
Factor = Annotated[float, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
ShareOrNone = Annotated[float, Field(ge=0, lt=1)]


def _at_least_one(values: tuple) -> tuple:
    if not values:
        raise ValueError("must name at least one")
    return values


def _none_or_several(folds: int) -> int:
    if folds < 0 or folds == 1:
        raise ValueError("must be 0, or at least 2")
    return folds


Folds = Annotated[int, AfterValidator(_none_or_several)]
SomeNames = Annotated[tuple[str, ...], AfterValidator(_at_least_one)]
SomeFactors = Annotated[tuple[Factor, ...], AfterValidator(_at_least_one)]
SomeSeeds = Annotated[tuple[Seed, ...], AfterValidator(_at_least_one)]
SomePenalties = Annotated[tuple[PositiveFloat, ...], AfterValidator(_at_least_one)]


class ConfigError(ValueError):
    """A setting is unknown or has a value it cannot have."""


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
