"""One experiment: load, check, override, settle, write.

Wrong keys and values raise ``ConfigError`` with the file, the key and what would be right, in one
line. What is left open by a file (the student's network, the teacher's learning rate) is settled
by ``settle``, so that what is written into the run folder is concrete.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from distill.config.learners import (
    CompareConfig,
    FrontierConfig,
    LanguageConfig,
    NestConfig,
    StudentConfig,
)
from distill.config.sections import (
    ComputeConfig,
    DataConfig,
    ExtractConfig,
    HeadConfig,
    ProjectConfig,
    SweepConfig,
    TeachConfig,
    TeacherConfig,
    ValidateConfig,
    ViewsConfig,
)
from distill.config.values import ConfigError, Section
from distill.whole import whole

STUDENT = "run:"  # before the path of a student that teaches


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

    An override of ``None`` was not given. What is laid over is not held against the tables: an
    option may settle what they say against each other. Raises ``ConfigError``.
    """
    merged = _laid_over(tables, overrides)
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
    named = merged.get("student", {}).get("name")
    if named not in (None, StudentConfig().name):  # nor has it those of the default network
        merged["student"].setdefault("options", {})
    config = _build(merged, where="")
    if "name" not in config.student.model_fields_set and config.teacher.name.startswith("hf/"):
        merged["student"] = TEXT_STUDENT | merged.get("student", {})
    if "learning_rate" not in config.teach.model_fields_set and config.teacher.weights == "random":
        merged.setdefault("teach", {})["learning_rate"] = LEARNING_RATE_FROM_RANDOM
    if config.extract.factor > 1:
        _go_on_with_factor_1(merged, config.extract, anew=bool(overrides.get("extract.factor")))
    return _build(merged, where="")


def _laid_over(tables: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tables, with what is overridden."""
    merged: dict[str, Any] = {}
    for name, value in tables.items():
        if name in Config.model_fields and name != "title" and not isinstance(value, Mapping):
            raise ConfigError(f"{name}: input should be a table, got {value!r}")
        merged[name] = dict(value) if isinstance(value, Mapping) else value
    for dotted, value in overrides.items():
        if value is not None:
            section, key = dotted.split(".")
            merged.setdefault(section, {})[key] = value
    return merged


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
