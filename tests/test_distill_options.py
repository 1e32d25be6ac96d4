"""Options: short names for settings, the same for functions and command line."""

import typing
from typing import Any, Literal

import numpy as np
import pytest

from distill import options as o
from distill.config import ConfigError, settle
from distill.options import (
    COMMON,
    COMPARE,
    EXTRACT,
    FRONTIER,
    LANGUAGE,
    MAPS,
    NEST,
    PROJECT,
    RUN,
    STUDENT,
    TEACH,
    WAYS,
    overrides,
)

TABLES: list[tuple[type, dict[str, o.Option]]] = [
    (o.TeachOptions, TEACH),
    (o.ExtractOptions, EXTRACT),
    (o.ProjectOptions, PROJECT),
    (o.ValidateOptions, {}),
    (o.HeadOptions, {}),
    (o.SweepOptions, {}),
    (o.StudentOptions, STUDENT),
    (o.CompareOptions, COMPARE),
    (o.NestOptions, NEST),
    (o.FrontierOptions, FRONTIER),
    (o.LanguageOptions, LANGUAGE),
    (o.RunOptions, RUN),
    (o.ImportOptions, {}),
]
SAMPLES = {
    str: "cosine", bool: True, int: 3, float: 3.0, float | list[float]: [3.0],
    int | list[int]: [3], float | Literal["auto"] | list[float | str]: ["3"],
}  # fmt: skip
CHOICES: dict[str, Any] = {
    "pooling": "cls", "dtype": "float16", "loss": "cosine", "eps": 0.3, "tolerance": 0.02,
    "kinds": "gaussian, pca", "factors": "1, 2.5", "shipped": "embedding", "memory_limit": "4GB",
    "way": "sketch", "mix": "cutmix", "embeddings": "teacher", "targets": "whitened",
    "head": "tuned", "rank": "0.5",
    "precision": "bfloat16", "methods": "labels, logits", "prefixes": "8, 4", "ema": 0.99,
    "budget": 0.1, "include": "mlp, head", "rivals": "svd, half", "budgets": "0.3, 0.5",
    "ranks": "8, 4", "floor": 0.3, "init": "svd", "weighing": "log-sum", "sampling": "uniform",
    "distill": "dense", "augment": "crop",
}  # fmt: skip

OWN: dict[type, dict[str, Any]] = {o.NestOptions: {"targets": "projected", "mix": "none"}}


@pytest.mark.parametrize(("table", "special"), TABLES, ids=lambda t: getattr(t, "__name__", ""))
def test_every_option_sets_something_that_exists(table: type, special: dict[str, o.Option]) -> None:
    for name, hint in typing.get_type_hints(table).items():
        choices = CHOICES | OWN.get(table, {})
        value = choices[name] if name in choices else SAMPLES[hint]
        found = overrides({name: value}, special)
        assert found, name
        settle({}, found)


def test_what_is_not_given_sets_nothing() -> None:
    assert overrides({"teacher": None, "factor": None, "random_init": False}) == {}


def test_columns_are_split_at_commas() -> None:
    assert overrides({"text_columns": "premise, hypothesis"}) == {
        "data.text_columns": ["premise", "hypothesis"]
    }


def test_the_lists_of_a_sweep_are_split_at_commas_or_taken_as_they_are() -> None:
    found = overrides({"kinds": "gaussian,pca", "factors": [1, 2.5], "memory_limit": "1.5 GB"})
    settled = settle({}, found).sweep
    assert settled.kinds == ("gaussian", "pca")
    assert settled.factors == (1.0, 2.5)
    assert settled.memory_limit == 1_500_000_000


@pytest.mark.parametrize(
    ("given", "key", "settled"),
    [
        ({"factor": 16}, "factors", (16,)),
        ({"factor": np.float32(2.5)}, "factors", (2.5,)),
        ({"factor": "4, 16"}, "factors", (4, 16)),
        ({"factor": (4, 16)}, "factors", (4, 16)),
        ({"factor": ["4,16", "32"]}, "factors", (4, 16, 32)),
        ({"seed": 3}, "seeds", (3,)),
    ],
)
def test_one_value_does_where_a_list_is_wanted(
    given: dict[str, Any], key: str, settled: tuple[float, ...]
) -> None:
    assert getattr(settle({}, overrides(given, PROJECT)).project, key) == settled


def test_one_penalty_and_one_kind_are_lists_of_one() -> None:
    found = settle({}, overrides({"l2": 0.1, "kinds": "pca", "factors": 4}))
    assert (found.head.l2, found.sweep.kinds, found.sweep.factors) == ((0.1,), ("pca",), (4,))


@pytest.mark.parametrize("name", ["factor", "l2", "kinds", "factors"])
def test_an_empty_list_is_refused_not_taken_for_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match="must name at least one"):
        settle({}, overrides({name: []}))


def test_no_rival_is_no_rival() -> None:
    assert settle({}, overrides({"rivals": ""}, FRONTIER)).frontier.rivals == ()


def test_one_seed_is_a_list_of_one_where_a_list_is_wanted() -> None:
    found = overrides({"seed": 4}, RUN)
    assert found["project.seeds"] == [4]
    assert found["student.seed"] == found["teach.seed"] == found["teacher.seed"] == 4


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="'epoch' is not an option"):
        overrides({"epoch": 3}, TEACH)


def test_help_texts_are_there_and_short() -> None:
    for table in (COMMON, TEACH, PROJECT, STUDENT, FRONTIER, RUN):
        for name, option in table.items():
            assert 0 < len(option.help.replace(MAPS, "").replace(WAYS, "")) <= 80, name
