"""One experiment as frozen data: load, check, override, fingerprint, write.

Every setting has one default, here. Unknown keys and wrong values raise ``ConfigError`` with
the file, the key and what would be right, in one line. What is left open by a file (the student's
network, the teacher's learning rate) is settled by ``settle``, so that what is written into the
run folder is concrete.
"""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from distill.whole import whole

STUDENT = "run:"  # before the path of a student that teaches
Scalar = bool | int | float | str
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Factor = Annotated[float, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
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
SomeSeeds = Annotated[tuple[Natural, ...], AfterValidator(_at_least_one)]
SomePenalties = Annotated[tuple[PositiveFloat, ...], AfterValidator(_at_least_one)]


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
    labelled: bool = True  # false: the inputs alone, whatever labels there are
    train_split: str = "train"
    validation_split: str = "validation"  # carved out of train where the data has none
    test_split: str = "test"  # likewise
    validation_share: Share = 0.15
    test_share: Annotated[Share, Field(validate_default=True)] = 0.2
    seed: Natural = 0  # of the splits and of limit's choice
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
    seed: Natural = 0  # of random weights


class TeachConfig(Section):
    """Teaching the teacher the task (``train-teacher``)."""

    epochs: Positive = 4
    batch_size: Positive = 32
    learning_rate: PositiveFloat = 1e-4  # fits pretrained weights; random ones want 2e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Weight = 0.01
    warmup: ShareOrNone = 0.1  # share of all steps
    augment: str = ""  # a new view of every example each epoch; "": the examples as they are
    folds: Folds = 0  # as many teachers more, each without one fold of the training examples
    seed: Natural = 0


class ExtractConfig(Section):
    """Running the teacher over the data."""

    batch_size: Positive = 64
    dtype: Literal["float32", "float16"] = "float32"  # of the stored rows
    held_out: bool = False  # training rows as teachers see them that never learned them
    unlabeled: str = ""  # data whose labels are not used: a further split, for students
    factor: Factor = 1  # above 1 the features are mapped as they are made, and only that is kept
    kind: str = "gaussian"  # of that map: one drawn from a seed
    seed: Natural = 0  # of that map


class ViewsConfig(Section):
    """Augmented views of the training examples, seen by the teacher and by students alike."""

    count: Natural = 0  # of each example, beside the example itself
    augment: str = "crop-flip"  # or crop, strong, …; text: token-dropout
    mix: Literal["none", "mixup", "cutmix"] = "none"  # images only
    seed: Natural = 0


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
    seed: Natural = 0


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
    kl_weight: Weight = 0.0
    ce_weight: Weight = 0.0
    temperature: PositiveFloat = 2.0
    top_logits: Natural = 0  # of a row that the way "logits" of a comparison learns; 0: all
    fisher_ridge: Weight = 0.1  # share of Mahalanobis' metric beside that of the loss "fisher"
    prefixes: tuple[Positive, ...] = ()  # widths below k that must do as well by themselves
    shrink: Annotated[float, Field(ge=0, le=1)] = 0.0  # of targets towards their class mean
    average_views: bool = False  # targets are the mean over an example's views
    projector: Natural = 0  # hidden width of an MLP behind the student while it learns; 0: none
    head: Literal["carried", "tuned", "fresh"] = "carried"
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
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    baselines: bool = False
    seed: Natural = 0


class CompareConfig(Section):
    """Ways to teach one student, side by side."""

    methods: SomeNames = ("labels", "logits", "subspace")
    trials: Positive = 4  # of a random search a method, each with seed 0
    seeds: Positive = 5  # fresh ones of each finalist
    reference: str = "subspace"  # the method that all others are compared with
    finalists: Natural = 0  # methods that get fresh seeds, the reference among them; 0: all
    always: tuple[str, ...] = ()  # of the methods, those that are finalists whatever was found
    seed: Natural = 0  # of the search


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
    ranks: tuple[Positive, ...] = ()  # of all layers alike, which are taught; (): a path finds them
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0  # smallest budget; 0: as far as ranks go
    # what is learned at each rank
    targets: Literal["labels", "projected"] = "labels"
    weighing: Literal["equal", "uncertainty", "clamped", "log-sum"] = "equal"
    sampling: Literal["sandwich", "uniform", "widening"] = "sandwich"
    over: Annotated[float, Field(gt=0, le=1)] = 0.5  # share of the steps that "widening" takes
    distill: Literal["none", "anchor", "dense"] = "anchor"
    kl_weight: Weight = 1.0
    temperature: PositiveFloat = 1.0
    # how
    epochs: Positive = 5
    batch_size: Positive = 32
    micro_batch: Natural = 0
    learning_rate: PositiveFloat = 2e-4
    weight_decay: Weight = 0.01
    warmup: ShareOrNone = 0.1
    clip: Weight = 10.0
    ema: ShareOrNone = 0.0
    patience: Natural = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: Natural = 0

    @field_validator("ranks")
    @classmethod
    def _ranks(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value), reverse=True))

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.ranks and self.floor:
            raise ValueError("say floor or ranks, not both: the lowest of the ranks is the floor")
        return self

    @field_validator("rank", mode="before")
    @classmethod
    def _rank(cls, value: Any) -> Any:
        """Reads 64, 0.5 and full, as a number or as text."""
        text = str(value)
        if text == "full" or isinstance(value, bool):
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


class ComputeConfig(Section):
    """Where the work is done. Changes no result beyond rounding."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    workers: Natural = 0  # processes that read and prepare inputs


class Config(Section):
    """One experiment."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True
    )

    title: str = "How far can it be compressed?"
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    teach: TeachConfig = TeachConfig()
    extract: ExtractConfig = ExtractConfig()
    views: ViewsConfig = ViewsConfig()
    project: ProjectConfig = ProjectConfig()
    validation: ValidateConfig = ValidateConfig()
    head: HeadConfig = HeadConfig()
    sweep: SweepConfig = SweepConfig()
    student: StudentConfig = StudentConfig()
    compare: CompareConfig = CompareConfig()
    nest: NestConfig = NestConfig()
    frontier: FrontierConfig = FrontierConfig()
    language: LanguageConfig = LanguageConfig()
    compute: ComputeConfig = ComputeConfig()


# The offline default; configs/digits.toml says the same (tested).
DIGITS: dict[str, Any] = {
    "title": "Handwritten digits",
    "data": {"name": "digits"},
    "teacher": {
        "name": "timm/resnet50",
        "weights": "random",
        "image_size": 32,
        "taught": True,
    },
    "teach": {"epochs": 6, "weight_decay": 0.05, "warmup": 0.25},
    "project": {"factors": [2, 4, 8, 16, 64, 256]},
}

TEXT_STUDENT: dict[str, Any] = {
    "name": "hf/bert",
    "options": {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512},
}
LEARNING_RATE_FROM_RANDOM = 2e-3


def load_config(path: Path) -> dict[str, Any]:
    """Read a TOML file and check it; returns its tables, to be overridden and settled."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file at {path}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; --config wants a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    _build(tables, where=f"{path}: ")
    return tables


def settle(tables: Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """The concrete config: ``tables``, then ``overrides`` by dotted key, then what follows.

    An override of ``None`` was not given. Raises ``ConfigError``.
    """
    _build(tables, where="")
    merged = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in tables.items()
    }
    for dotted, value in overrides.items():
        if value is not None:
            section, key = dotted.split(".")
            merged.setdefault(section, {})[key] = value
    # options belong to one network: another network named on top starts without them
    for section in ("teacher", "student"):
        before = tables.get(section, {}).get("name")
        if overrides.get(f"{section}.name") not in (None, before):
            merged[section]["options"] = {}
            if str(overrides[f"{section}.name"]).startswith(STUDENT):
                # a student brings all of its own: nothing that was said of a network holds
                merged[section] = {
                    dotted.partition(".")[2]: value
                    for dotted, value in overrides.items()
                    if dotted.startswith(f"{section}.") and value is not None
                }
    config = _build(merged, where="")
    if "name" not in config.student.model_fields_set and config.teacher.name.startswith("hf/"):
        merged["student"] = TEXT_STUDENT | merged.get("student", {})
    if "learning_rate" not in config.teach.model_fields_set and config.teacher.weights == "random":
        merged.setdefault("teach", {})["learning_rate"] = LEARNING_RATE_FROM_RANDOM
    if config.extract.factor > 1:
        _go_on_with_factor_1(merged, config.extract, anew=bool(overrides.get("extract.factor")))
    return _build(merged, where="")


def _go_on_with_factor_1(merged: dict[str, Any], extract: ExtractConfig, *, anew: bool) -> None:
    """Let what follows take features as they are that were projected as they were made.

    ``anew`` over what a run's file says of the features that it had before.
    """
    onwards: dict[str, dict[str, Any]] = {
        "project": {"kind": extract.kind, "seeds": [extract.seed], "factors": [1]},
        "student": {"factor": 1},
    }
    for section, values in onwards.items():
        given = merged.get(section, {})
        merged[section] = given | values if anew else values | given


def write_config(config: Config, path: Path) -> None:
    """Write every setting as TOML, whole or not at all."""
    import tomli_w  # only commands that write need it

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as scratch:
        scratch.write_text(tomli_w.dumps(config.model_dump(mode="json")), encoding="utf-8")


def fingerprint(*parts: Any) -> str:
    """A name of twelve characters for anything JSON can say; equal parts, equal names."""
    plain = [
        part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts
    ]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _build(tables: Mapping[str, Any], *, where: str) -> Config:
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(where + _first_complaint(error)) from None


def _first_complaint(error: ValidationError) -> str:
    """Pydantic's first finding as one line in our words."""
    first = error.errors()[0]
    place = [part for part in first["loc"] if isinstance(part, str)]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _settings_beside(place)
        near = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{name} is not a setting; {hint}known: {', '.join(known)}"
    message = first["msg"].removeprefix("Value error, ")
    whole = isinstance(first["input"], BaseModel | Mapping)  # settings that do not fit together
    got = "" if whole else f", got {first['input']!r}"
    return f"{name}: {message[0].lower()}{message[1:]}{got}"


def _settings_beside(place: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for part in place[:-1]:
        annotation = section.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return sorted(section.model_fields)
