"""The comparison: searched alike, fixed before test, taught with fresh seeds, told honestly."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.comparing.contenders import CONTENDERS, Contender, contender, contenders
from distill.comparing.search import Settings, draw
from distill.comparing.statistics import AHEAD, BEHIND, NO_DIFFERENCE, compare, holm
from distill.config import CompareConfig, StudentConfig
from distill.entrants import Answered
from distill.errors import StageError
from distill.findings import Comparison, Fixed, SeedScore, Shipped, Trial, Way
from distill.lessons import Lesson
from distill.options import WAYS
from distill.progress import Silent
from distill.stages.compare_students import Ground, compare_students, fix_recipe
from distill.text import as_text
from students import CheckpointError
from tests.lessons_examples import dataset, image_teacher, lesson

ROWS, CLASSES = 300, ("cat", "dog", "bird")
LABELS = np.arange(ROWS) % 3


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return lesson(tmp_path_factory.mktemp("lesson"), dataset(), image_teacher())


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@dataclass
class Made:
    """An entrant that is as good as it is told, and remembers what it was asked."""

    contender: Contender
    skill: float  # share of the test rows it hits
    best: int = 0  # the trial that does best
    asked: list[str] = field(default_factory=list)
    settings: list[Settings] = field(default_factory=list)

    def defaults(self) -> Settings:
        whole = StudentConfig().model_dump() | self.contender.defaults
        return {name: whole[name] for name in self.contender.space}

    def try_out(self, number: int, drawn: Settings, folder: Path) -> Trial:
        self.asked.append(f"trial-{number}")
        self.settings.append(drawn)
        accuracy = 0.9 if number == self.best else 0.1
        accuracy += 0.01 * self.skill
        folder.mkdir(parents=True)
        return Trial(number=number, settings=drawn, accuracy=accuracy, loss=1.0, seconds=1.0)

    def teach(self, seed: int, drawn: Settings, folder: Path) -> Answered:
        assert (folder.parents[1] / "recipe.json").is_file(), "test before the recipe was fixed"
        self.asked.append(f"seed-{seed}")
        self.settings.append(drawn)
        rng = np.random.default_rng([seed, len(self.contender.name)])
        ease = np.random.default_rng(0).random(ROWS)
        hit = ease + rng.normal(0, 0.02, ROWS) < self.skill
        predicted = np.where(hit, LABELS, (LABELS + 1) % 3)
        share = float(hit.mean())
        score = SeedScore(
            seed=seed, accuracy=share, agreement=share, recall=None, steps=10.0 * seed,
            seconds=1.0, loss=0.5, trained_seconds=2.0,
        )  # fmt: skip
        return Answered(score, predicted)

    def ship(self, drawn: Settings, folders: Mapping[int, Path], place: Path) -> Shipped:
        del drawn, place
        self.asked.append(f"ship {sorted(folders)}")
        return Shipped(
            stored_bytes=8, parameters=100, multiply_adds=200, latency=1e-3, barrier=None
        )


def ground(taught: Lesson, **made_by: Any) -> Ground:
    return Ground(
        lesson=taught, network="timm/x", epochs=3, rows={"test": ROWS}, labels=LABELS,
        teachers=LABELS, classes=CLASSES, made_by={"student.epochs": 3} | made_by,
        left_out=("online is left out",),
    )  # fmt: skip


def field_of(**skills: float) -> list[Made]:
    """Entrants by name; underscores stand for dashes."""
    names = [name.replace("_", "-") for name in skills]
    return [Made(one, skills[one.name.replace("-", "_")]) for one in contenders(names)]


def run(
    entrants: list[Made], taught: Lesson, folder: Path, *, progress: Silent | None = None,
    overwrite: bool = False, made_by: Mapping[str, Any] | None = None, **settings: Any,
) -> Comparison:  # fmt: skip
    return compare_students(
        entrants,
        ground(taught, **(made_by or {})),
        folder=folder,
        settings=CompareConfig(**({"trials": 3, "seeds": 4} | settings)),
        progress=progress or Silent(),
        overwrite=overwrite,
    )


def of(found: Comparison, name: str) -> Way:
    return next(way for way in found.ways if way.name == name)


def test_every_way_gets_as_many_trials_and_the_same_fresh_seeds(
    taught: Lesson, tmp_path: Path
) -> None:
    entrants = field_of(subspace=0.8, labels=0.7, dkd=0.8)
    found = run(entrants, taught, tmp_path)
    for one in entrants:
        wanted = ["trial-0", "trial-1", "trial-2", "seed-1", "seed-2", "seed-3", "seed-4"]
        assert one.asked == [*wanted, "ship [1, 2, 3, 4]"]
    assert [way.name for way in found.ways] == ["subspace", "labels", "dkd"]
    assert found.notes == ("online is left out",)
    assert of(found, "labels").steps is not None
    assert of(found, "labels").steps.mean == 25.0  # type: ignore[union-attr]


def test_seeds_are_taught_with_what_won_on_validation(taught: Lesson, tmp_path: Path) -> None:
    (ours, labels) = entrants = field_of(subspace=0.8, labels=0.7)
    ours.best, labels.best = 2, 1
    found = run(entrants, taught, tmp_path)
    for one, best in ((ours, 2), (labels, 1)):
        drawn = draw(one.contender.space, one.defaults(), trial=best, seed=0)
        assert one.settings[3:] == [drawn] * 4
        assert of(found, one.contender.name).chosen.settings == drawn
    fixed = Fixed.load(tmp_path / "recipe.json")
    assert [one.trial for one in fixed.chosen] == [2, 1]


def test_ahead_and_behind_are_said_by_holm_s_p(taught: Lesson, tmp_path: Path) -> None:
    found = run(field_of(subspace=0.8, labels=0.6, dkd=0.8, vkd=0.95), taught, tmp_path)
    verdicts = {way.name: way.versus.verdict for way in found.ways if way.versus}
    assert verdicts == {"labels": BEHIND, "dkd": NO_DIFFERENCE, "vkd": AHEAD}
    versus = [way.versus for way in found.ways if way.versus]
    assert holm([one.p for one in versus]) == tuple(one.adjusted for one in versus)
    assert of(found, "vkd").versus.value == pytest.approx(0.15, abs=0.06)  # type: ignore[union-attr]
    assert of(found, "subspace").versus is None
    assert found.teacher_accuracy == 1.0


def test_differences_are_paired_over_seeds_and_rows(taught: Lesson, tmp_path: Path) -> None:
    entrants = field_of(subspace=0.8, dkd=0.76)
    found = run(entrants, taught, tmp_path)
    place = tmp_path / "x" / "y"
    hits = [
        np.stack([one.teach(seed, {}, place).predicted == LABELS for seed in range(1, 5)])
        for one in entrants
    ]
    wanted = compare(hits[1], hits[0])
    versus = of(found, "dkd").versus
    assert versus is not None
    assert (versus.value, versus.interval, versus.p) == wanted


def test_a_recipe_is_never_searched_again(taught: Lesson, tmp_path: Path) -> None:
    first = run(field_of(subspace=0.8, labels=0.7), taught, tmp_path)
    before = (tmp_path / "recipe.json").read_bytes()
    again = field_of(subspace=0.8, labels=0.7)
    second = run(again, taught, tmp_path)
    assert not any(word.startswith("trial") for one in again for word in one.asked)
    assert (tmp_path / "recipe.json").read_bytes() == before
    assert second == first


def test_the_recipe_alone_reads_no_test_row_and_is_gone_on_with(
    taught: Lesson, tmp_path: Path
) -> None:
    entrants = field_of(subspace=0.8, labels=0.7)
    settings = CompareConfig(trials=2, seeds=2)
    fixed = fix_recipe(
        entrants, ground(taught), folder=tmp_path, settings=settings, progress=Silent()
    )
    assert all(one.asked == ["trial-0", "trial-1"] for one in entrants)
    assert [one.name for one in fixed.chosen] == ["subspace", "labels"]
    assert Fixed.load(tmp_path / "recipe.json").chosen == fixed.chosen
    assert "no student has answered a test row yet" in as_text(fixed)
    assert "90.80 %" in as_text(fixed)
    again = field_of(subspace=0.8, labels=0.7)
    run(again, taught, tmp_path, trials=2, seeds=2)
    assert [one.asked[:2] for one in again] == [["seed-1", "seed-2"]] * 2


def test_a_way_that_joins_later_is_searched_alone(taught: Lesson, tmp_path: Path) -> None:
    run(field_of(subspace=0.8, labels=0.7), taught, tmp_path)
    joined = field_of(subspace=0.8, dkd=0.7)
    found = run(joined, taught, tmp_path)
    assert [word for word in joined[0].asked if "trial" in word] == []
    assert [word for word in joined[1].asked if "trial" in word] == [
        "trial-0",
        "trial-1",
        "trial-2",
    ]
    assert [way.name for way in found.ways] == ["subspace", "dkd"]
    names = [one.name for one in Fixed.load(tmp_path / "recipe.json").chosen]
    assert names == ["subspace", "labels", "dkd"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trials": 5}, "trials"),
        ({"seed": 1}, "seed"),
        ({"made_by": {"student.epochs": 9}}, "student.epochs"),
    ],
)
def test_other_settings_than_the_recipe_s_are_refused_by_name(
    taught: Lesson, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    run(field_of(subspace=0.8, labels=0.7), taught, tmp_path)
    entrants = field_of(subspace=0.8, labels=0.7)
    with pytest.raises(CheckpointError, match=rf"recipe.json was made with {named} = [03]"):
        run(entrants, taught, tmp_path, **changes)
    assert entrants[0].asked == []
    found = run(entrants, taught, tmp_path, overwrite=True, **changes)
    assert len(found.ways) == 2
    assert entrants[0].asked[0] == "trial-0"


def test_more_seeds_may_be_asked_for_later(taught: Lesson, tmp_path: Path) -> None:
    run(field_of(subspace=0.8, labels=0.7), taught, tmp_path, seeds=2)
    found = run(field_of(subspace=0.8, labels=0.7), taught, tmp_path, seeds=6)
    assert len(of(found, "labels").seeds) == 6


def test_only_finalists_get_fresh_seeds_and_the_reference_is_one(
    taught: Lesson, tmp_path: Path
) -> None:
    entrants = field_of(subspace=0.1, labels=0.7, dkd=0.9)  # by skill on validation, too
    found = run(entrants, taught, tmp_path, finalists=1)
    taught_ones = [one.contender.name for one in entrants if "seed-1" in one.asked]
    assert taught_ones == ["subspace", "dkd"]
    assert of(found, "labels").accuracy is None
    assert of(found, "labels").versus is None
    assert of(found, "labels").chosen.accuracy > 0.9
    assert of(found, "dkd").versus.adjusted == of(found, "dkd").versus.p  # type: ignore[union-attr]


def test_some_ways_are_finalists_whatever_was_found(taught: Lesson, tmp_path: Path) -> None:
    entrants = field_of(subspace=0.9, labels=0.1, dkd=0.5, logits=0.3)
    run(entrants, taught, tmp_path, finalists=1, always=("labels",))
    taught_ones = [one.contender.name for one in entrants if "seed-1" in one.asked]
    assert taught_ones == ["subspace", "labels"]
    with pytest.raises(
        StageError, match=r"^compare\.always: 'label' is not compared; did you mean 'labels'"
    ):
        run(entrants, taught, tmp_path, finalists=1, always=("label",))


def test_the_worst_class_is_named(taught: Lesson, tmp_path: Path) -> None:
    class Blind(Made):
        def teach(self, seed: int, drawn: Settings, folder: Path) -> Answered:
            found = super().teach(seed, drawn, folder)
            return found._replace(predicted=np.where(LABELS == 2, 0, LABELS))

    entrants = [Blind(CONTENDERS["subspace"], 0.9), Made(CONTENDERS["labels"], 0.9)]
    way = of(run(entrants, taught, tmp_path), "subspace")
    assert (way.worst_class, way.worst_class_accuracy) == ("bird", 0.0)


def test_what_is_coming_is_told(taught: Lesson, tmp_path: Path) -> None:
    listener = Listener()
    run(field_of(subspace=0.8, labels=0.7), taught, tmp_path, progress=listener)
    assert listener.said[0] == "subspace, trial 1 of 3 (training 1 of 6)"
    assert listener.said[-1] == "labels, seed 4 of 4 (training 8 of 8)"


def test_time_left_is_that_of_trainings_that_took_some(
    taught: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("distill.stages.compare_students.perf_counter", lambda: now[0])

    class Slow(Made):
        def try_out(self, number: int, drawn: Settings, folder: Path) -> Trial:
            now[0] += 60.0
            return super().try_out(number, drawn, folder)

    listener = Listener()
    entrants = [Made(CONTENDERS["subspace"], 0.9), Slow(CONTENDERS["labels"], 0.9)]
    run(list(entrants), taught, tmp_path, progress=listener)
    trials = [line for line in listener.said if "trial" in line]
    assert "left" not in trials[3]  # three that took no time tell nothing
    assert trials[4].endswith("(training 5 of 6, about 2 min left)")


def test_a_comparison_goes_to_json_and_back(taught: Lesson, tmp_path: Path) -> None:
    found = run(field_of(subspace=0.8, labels=0.7), taught, tmp_path)
    assert Comparison.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_killed_between_search_and_recipe_it_goes_on(taught: Lesson, tmp_path: Path) -> None:
    class Dies(Made):
        def try_out(self, number: int, drawn: Settings, folder: Path) -> Trial:
            if number == 1:
                raise KeyboardInterrupt
            return super().try_out(number, drawn, folder)

    entrants = [Made(CONTENDERS["subspace"], 0.9), Dies(CONTENDERS["labels"], 0.9)]
    with pytest.raises(KeyboardInterrupt):
        run(list(entrants), taught, tmp_path)
    assert not (tmp_path / "recipe.json").exists()
    shutil.rmtree(tmp_path / "subspace")  # these entrants remember nothing by themselves
    shutil.rmtree(tmp_path / "labels")
    assert len(run(field_of(subspace=0.8, labels=0.7), taught, tmp_path).ways) == 2


# --- who may take part ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("feature", "features"),
        ("vdk", "vkd"),
        ("subspace:pcaa", "subspace:pca"),
        ("logit_mse", "logit-mse"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(name: str, near: str) -> None:
    with pytest.raises(
        StageError, match=f"no way to teach is called '{name}'; did you mean '{near}'"
    ):
        contender(name)


def test_a_name_like_none_is_told_all() -> None:
    known = r"known: subspace, sketch, sketch-dkd, labels, .*subspace:pca.*sketch:pca"
    with pytest.raises(StageError, match=known):
        contender("zzzzzz")


def test_a_kind_alone_is_the_subspace_of_that_kind() -> None:
    assert contender("pca") == contender("subspace:pca")
    assert contender("pca").kind == "pca"
    assert contender("pca").name == "subspace:pca"
    assert [one.name for one in contenders(["labels", "pca", "labels"])] == [
        "subspace", "labels", "subspace:pca",
    ]  # fmt: skip


def test_a_sketch_of_another_map_and_another_reference() -> None:
    one = contender("sketch:pca@2")
    assert (one.method, one.kind, one.defaults["views"]) == ("sketch", "pca", 2)
    other = contender("sketch-dkd:pca")
    assert (other.method, other.kind, other.takes) == ("sketch", "pca", one.takes)
    assert (one.defaults["decouple"], other.defaults["decouple"]) == (0.0, 8.0)
    assert other.space == one.space
    assert not one.in_space
    names = [one.name for one in contenders(["labels", "subspace"], reference="sketch")]
    assert names == ["sketch", "labels", "subspace"]


def test_the_help_names_every_way() -> None:
    assert ", or a kind of map" in WAYS
    assert WAYS.removesuffix(", or a kind of map").split(", ") == list(CONTENDERS)


def test_what_is_searched_are_settings_that_there_are() -> None:
    known = set(StudentConfig.model_fields)
    for one in CONTENDERS.values():
        if one.method:
            assert set(one.space) <= known, one.name
            assert set(one.defaults) <= known, one.name
            assert "learning_rate" in one.space
        else:
            assert set(one.space) == set(one.defaults)
