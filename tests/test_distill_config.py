"""The config: one default for each setting, unknown keys refused, what is written is concrete."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from distill.config import (
    DIGITS,
    Config,
    ConfigError,
    StudentConfig,
    fingerprint,
    load_config,
    settle,
    write_config,
)
from distill.config.experiment import LEARNING_RATE_FROM_RANDOM, TEXT_STUDENT

ROOT = Path(__file__).resolve().parents[1]


def test_the_digits_file_and_the_built_in_default_say_the_same() -> None:
    assert tomllib.loads((ROOT / "configs/digits.toml").read_text()) == DIGITS


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_every_committed_config_loads(path: Path) -> None:
    settle(load_config(path), {})


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    config = settle(DIGITS, {"student.factor": 8, "data.text_columns": ["a", "b"]})
    write_config(config, tmp_path / "config.toml")
    assert settle(load_config(tmp_path / "config.toml"), {}) == config


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"project": {"factrs": [1]}},
            "project.factrs is not a setting; did you mean 'factors'? known: dtype, factors, kind, "
            "seeds",
        ),
        ({"projekt": {}}, "projekt is not a setting; did you mean 'project'?"),
        ({"project": {"factors": [0.5]}}, "greater than or equal to 1, got 0.5"),
        ({"project": {"factors": []}}, "project.factors: must name at least one"),
        ({"head": {"l2": []}}, "head.l2: must name at least one"),
        ({"nest": {"ranks": [8], "floor": 0.5}}, "nest: say floor or ranks, not both"),
        (
            {"nest": {"ranks": [8], "budgets": [0.5]}},
            "nest: say budgets or ranks, not both: ranks are taught, and nothing else ([nest] "
            "budgets = [], of `distill nest` --budgets '' too; or --ranks '')",
        ),
        (
            {"nest": {"rank": True}},
            "nest.rank: must be a number like 64, a share like 0.5, or full",
        ),
        (
            {"data": {"validation_share": 0.5, "test_share": 0.5}},
            "data.test_share: must leave a share to train on: with validation_share = 0.5 it makes "
            "1, got 0.5",
        ),
        ({"data": {"validation_share": 0.8}}, "data.test_share: must leave a share to train on"),
        ({"data": {"validation_share": 2}}, "data.validation_share: input should be less than 1"),
        ({"data": {"test_share": 1.5}}, "data.test_share: input should be less than 1, got 1.5"),
        ({"student": {"loss": "mae"}}, "student.loss: input should be 'mse', 'normalised-mse'"),
        ({"teacher": 3}, "teacher: input should be"),
        ({"teach": {"learning_rate": float("nan")}}, "teach.learning_rate"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settle(tables, {})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[data", "is not TOML"), ("[data]\nnmae = 'x'", "data.nmae is not a setting")],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config file at .*nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


def test_overrides_win_and_none_is_not_given() -> None:
    config = settle(DIGITS, {"teacher.image_size": 64, "student.epochs": None})
    assert config.teacher.image_size == 64
    assert config.student.epochs == Config().student.epochs


def test_a_text_teacher_gets_a_text_student_unless_one_is_named() -> None:
    assert settle({}, {"teacher.name": "hf/x"}).student.name == TEXT_STUDENT["name"]
    named = settle({}, {"teacher.name": "hf/x", "student.name": "hf/electra"})
    assert named.student.name == "hf/electra"
    assert settle({}, {"teacher.name": "timm/x"}).student.name.startswith("timm/")


def test_random_weights_get_a_learning_rate_for_random_weights() -> None:
    settled = settle({}, {"teacher.weights": "random"})
    assert settled.teach.learning_rate == LEARNING_RATE_FROM_RANDOM
    asked = settle({}, {"teacher.weights": "random", "teach.learning_rate": 0.5})
    assert asked.teach.learning_rate == 0.5


def test_another_network_does_not_inherit_the_options_of_the_one_before() -> None:
    tables = {"teacher": {"name": "timm/a", "options": {"pad_type": "same"}}}
    assert settle(tables, {"teacher.name": "timm/b"}).teacher.options == {}
    assert settle(tables, {"teacher.name": "timm/a"}).teacher.options == {"pad_type": "same"}


def test_a_student_named_in_a_file_has_no_options_of_the_default_one() -> None:
    """Channels of the default network would make another a quarter as wide, and nobody said so."""
    own = StudentConfig()
    assert settle({"student": {"name": "timm/resnet18"}}, {}).student.options == {}
    assert settle({"student": {"name": own.name}}, {}).student.options == own.options
    assert settle({"student": {"epochs": 3}}, {}).student.options == own.options
    told = {"name": "timm/resnet18", "options": {"stem_width": 8}}
    assert settle({"student": told}, {}).student.options == told["options"]


def test_settling_what_is_settled_changes_nothing() -> None:
    once = settle(DIGITS, {})
    assert settle(once.model_dump(mode="json"), {}) == once


def test_fingerprints_tell_settings_apart() -> None:
    config = Config()
    other = settle({}, {"student.epochs": 31})
    assert fingerprint(config.student) == fingerprint(Config().student)
    assert fingerprint(config.student) != fingerprint(other.student)
    assert fingerprint("a", "b") != fingerprint("ab")


def test_an_option_settles_what_tables_say_against_each_other() -> None:
    """A run keeps ranks, a file says a floor: neither holds beside the other."""
    tables = {"nest": {"ranks": [8, 4], "floor": 0.3}}
    with pytest.raises(ConfigError, match="say floor or ranks, not both"):
        settle(tables, {"nest.epochs": 3})
    assert settle(tables, {"nest.ranks": ()}).nest.floor == 0.3
    assert settle(tables, {"nest.floor": 0.0}).nest.ranks == (8, 4)
    with pytest.raises(ConfigError, match="flor"):
        settle({"nest": {"flor": 0.3}}, {"nest.floor": 0.4})


@pytest.mark.parametrize("name", ["nest", "teacher", "student", "data"])
def test_a_section_that_is_no_table_is_told_of_whatever_is_laid_over_it(name: str) -> None:
    for overrides in ({}, {"nest.epochs": 3}, {f"{name}.name": "x"}):
        with pytest.raises(ConfigError, match=name):
            settle({name: 3}, overrides)
