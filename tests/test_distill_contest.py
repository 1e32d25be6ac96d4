"""Contestants of a frontier: where they are run, what they are taught, what they answer."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill import classroom
from distill.classroom import Classroom
from distill.contest import Runner, Spot
from distill.contest_answers import RECORD, answers_of
from distill.contestants import RIVALS, Ground, Many, Nested, dense_of, why_not
from distill.contestants.ground import choose_nothing
from distill.frontiers import spread
from distill.rank_lessons import DEAF, objective_for, teach_settings
from distill.stopwatch import LEAST, WARM_UP, interleaved
from students import CheckpointError
from students.nested import NestedRecipe, count_flops, nest, nested_layers
from tests.contest_examples import LESSONS, Tiny, dense, ground, room, rows

MANY = Many(seeds=2, networks=3)


# --- budgets --------------------------------------------------------------------------------------


def test_gaps_are_halved_from_the_widest() -> None:
    found = spread([0.2, 1.0], count=4, taken=lambda budget: budget)
    assert [share for _, share in found] == pytest.approx([0.2, 0.4, 0.6, 1.0])


def test_a_budget_that_takes_a_share_there_is_adds_nothing() -> None:
    def taken(budget: float) -> float:
        return next(share for share in (1.0, 0.6, 0.2) if share <= budget + 1e-9)

    found = spread([1.0, 0.2], count=9, taken=taken)
    assert [share for _, share in found] == [0.2, 0.6, 1.0]


def test_a_wide_gap_without_a_share_of_its_own_leaves_the_narrow_ones() -> None:
    def taken(budget: float) -> float:
        shares = (1.0, 0.3, 0.26, 0.2)  # between 0.3 and 1 there is none
        return next(share for share in shares if share <= budget + 1e-9)

    found = spread([1.0, 0.3, 0.2], count=9, taken=taken)
    assert [share for _, share in found] == [0.2, 0.26, 0.3, 1.0]


def test_what_is_asked_for_is_always_there() -> None:
    found = spread([0.2, 0.35, 0.5, 1.0], count=3, taken=lambda budget: budget)
    assert [budget for budget, _ in found] == [0.2, 0.35, 0.5, 1.0]


def test_spots_are_the_ranks_taught_those_asked_for_and_enough_between() -> None:
    spots = ground().spots
    assert len(spots) == 6
    assert [next(iter(s.setting.values())) for s in spots if s.trained] == sorted(LESSONS)
    shares = [spot.share for spot in spots]
    assert shares == sorted(shares)
    assert any(spot.budget == 0.5 and spot.share <= 0.5 for spot in spots)
    assert all(spot.share <= spot.budget + 1e-9 for spot in spots)


def test_a_budget_that_takes_what_was_taught_is_told_of_by_its_name() -> None:
    one = ground()
    share = next(s.share for s in one.spots if s.trained and s.share < 1)
    spots = ground(budgets=(share + 1e-4,)).spots
    assert [(s.budget, s.trained) for s in spots if s.share == share] == [(share + 1e-4, True)]


def test_shares_and_parameters_are_those_of_the_networks_that_run() -> None:
    """Prepared, as they run; by torch's own count."""
    one = ground()
    for contestant in (Nested(ground=one, seeds=1), RIVALS["width"](one, MANY)):
        runner = contestant.runner("", 0)
        runner.network.eval()
        for spot in runner.spots:
            runner.choose(runner.network, spot.setting)
            runner.prepare(runner.network, [spot.setting])
            assert count_flops(runner.network, one.example) / one.flops == pytest.approx(spot.share)
    assert runner.spots[-1].parameters == sum(p.numel() for p in dense().parameters())
    assert runner.spots[0].parameters < runner.spots[-1].parameters / 2


def test_each_rival_is_what_it_says() -> None:
    one = ground()
    made = {name: make(one, MANY) for name, make in RIVALS.items()}
    assert [made[n].seeds for n in RIVALS] == [1, 1, 1, 2, 2, 2]  # fmt: skip
    for name in ("svd", "whitened"):
        runner = made[name].runner("", 0)
        assert runner.lessons == ()
        assert not any(spot.trained for spot in runner.spots)
        assert [s.share for s in runner.spots] == [s.share for s in one.spots]
    alone = made["one-rank"]
    assert len(alone.parts()) == 3
    for part in alone.parts():
        (spot,) = alone.runner(part, 0).spots
        assert spot.trained
        assert spot.share < 1
    width = made["width"].runner("", 0)
    assert len(width.lessons) == len(LESSONS)
    paid = [spot.share for spot in reversed(one.spots) if spot.trained]
    costs = {spot.setting: spot.share for spot in width.spots}
    assert all(costs[units] <= share for units, share in zip(width.lessons, paid, strict=True))
    assert all(units in {s.setting for s in width.spots if s.trained} for units in width.lessons)
    assert list(width.lessons) == sorted(width.lessons, reverse=True)
    half = made["half"].runner("", 0)
    assert len(list(half.network.get_submodule("blocks").children())) == 1
    assert 0.5 < half.spots[0].share < 0.56
    longer = made["longer"].runner("", 1)
    assert longer.network is not one.dense  # which stays as it is
    assert (longer.spots[0].share, longer.spots[0].trained, longer.lessons) == (1.0, True, (None,))
    for name, value in longer.network.state_dict().items():
        torch.testing.assert_close(value, one.dense.state_dict()[name])


class Narrowing(nn.Module):
    """Stages of other widths, as convolutional networks have: no MLP block, no half."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = self.head(self.stages(prepared["rows"]))
        return found


def test_why_a_rival_cannot_be_made_is_said() -> None:
    one = ground()
    assert [why_not(name, one) for name in RIVALS] == [""] * 6
    other = ground(dense=Narrowing())
    whys = {name: why_not(name, other) for name in RIVALS}
    assert "no MLP block of this Narrowing is known" in whys["width"]
    assert "what follows stages does not fit the first half of it" in whys["half"]
    assert not whys["svd"]


def test_the_first_seed_is_the_network_there_is_and_others_are_taught() -> None:
    one = Nested(ground=ground(), seeds=2)
    first, second = one.runner("", 0), one.runner("", 1)
    assert (first.lessons, first.taught) == ((), 14)
    assert [next(iter(lesson.values())) for lesson in second.lessons] == list(LESSONS)


def test_other_seeds_begin_with_biases_of_their_own_where_the_first_has_them() -> None:
    for own in (False, True):
        one = Nested(ground=ground(own_biases=own), seeds=2)
        network = one.runner("", 1).network
        assert ("biases of each taught rank's own" in one.about) is own
        found = {layer.own_ranks for layer in nested_layers(network).values()}
        assert found == ({LESSONS} if own else {()})


def test_biases_of_their_own_count_where_layers_had_none() -> None:
    def start() -> nn.Module:
        network = dense()
        network.get_submodule("blocks.0.mlp.fc1").register_parameter("bias", None)
        nest(network, "mlp", init="svd")
        return network

    def parameters(own: bool) -> list[int]:
        room = ground(start=start, taught=start, own_biases=own)
        return [spot.parameters for spot in Nested(ground=room, seeds=2).runner("", 1).spots]

    hidden = len(dense().get_submodule("blocks.0.mlp.fc1").get_parameter("bias"))
    assert parameters(own=True) == [count + hidden for count in parameters(own=False)]


# --- what is learned ------------------------------------------------------------------------------


def test_a_network_of_one_setting_learns_from_the_dense_one_what_ranks_learn_from_the_anchor() -> (
    None
):
    one = room()
    assert objective_for(3, one.objective) == one.objective
    alone = objective_for(1, one.objective)
    assert (alone.distill, alone.weighing, alone.ce_weight) == ("dense", "equal", 1.0)
    plain = room(objective=NestedRecipe(distill="none"))
    assert objective_for(1, plain.objective).distill == "none"


def test_teaching_makes_a_network_better_at_all_it_is_taught_at(tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = Tiny()
        nest(network, "mlp")
        return network

    runner = Nested(ground=ground(start=fresh), seeds=2).runner("", 1)
    recipe = dataclasses.replace(room().recipe, epochs=3, learning_rate=0.03)
    one = room(recipe=recipe, objective=NestedRecipe(weighing="equal", sampling="sandwich"))
    before = accuracies(one, runner)
    result = one.teach(runner, 1, tmp_path, made_by={})
    after = accuracies(one, runner)
    for place, spot in enumerate(runner.spots):
        assert after[place] > before[place] + 0.2 or not spot.trained
    assert result.history[-1]["step"] == 3 * 7


HINTED = tuple(f"blocks.{block}.mlp.{layer}" for block in (0, 1) for layer in ("fc1", "fc2"))
HINTS = NestedRecipe(weighing="equal", sampling="sandwich", distill="anchor", hint_weight=2.0)


@pytest.mark.parametrize(
    ("name", "heard"),
    [
        ("nested", {layer: layer for layer in HINTED}),
        ("one-rank", {layer: layer for layer in HINTED}),
        ("longer", {layer: layer for layer in HINTED}),
        # hidden units in another order, and fewer of them, are no outputs to compare
        ("width", {layer: layer for layer in HINTED if layer.endswith("fc2")}),
        ("half", {f"blocks.1.mlp.{layer}": f"blocks.0.mlp.{layer}" for layer in ("fc1", "fc2")}),
    ],
)
def test_all_that_learn_hear_what_the_dense_layers_give(
    name: str, heard: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def spied(network: Any, lessons: Any, **arguments: Any) -> Any:
        given.update(arguments)
        return teach_settings(network, lessons, **arguments)

    monkeypatch.setattr(classroom, "teach_settings", spied)
    one, base = room(objective=HINTS, hinted=HINTED), ground()
    contestant = Nested(ground=base, seeds=2) if name == "nested" else RIVALS[name](base, MANY)
    result = one.teach(contestant.runner(contestant.parts()[0], 1), 1, tmp_path, made_by={})
    witness = given["witness"]
    assert witness.counterparts == heard
    assert witness.dense is one.dense
    assert witness.spreads == one.spreads
    batch = next(given["train"].feed.batches([np.arange(4)]))
    assert batch.targets.keys() == {"labels"}  # the dense network answers beside
    losses = [entry["loss"] for entry in result.history]
    assert losses[-1] < losses[0]


def test_a_network_without_such_layers_learns_the_rest(tmp_path: Path) -> None:
    """Of widths, whose hidden units alone were to be heard: as if no hints were asked for."""
    found = []
    for hints in (HINTS, dataclasses.replace(HINTS, hint_weight=0.0)):
        runner = RIVALS["width"](ground(), MANY).runner("", 0)
        one = room(objective=hints, hinted=HINTED[:1])
        taught = one.teach(runner, 0, tmp_path / str(hints.hint_weight), made_by={})
        assert (DEAF in taught.notes) == bool(hints.hint_weight)
        found.append(runner.network.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=0, atol=0)


def accuracies(one: Classroom, runner: Runner) -> list[float]:
    hits = one.answer(runner, "test") == one.labels["test"][None]
    return [float(value) for value in hits.mean(axis=1)]


def test_answers_are_those_of_the_setting() -> None:
    one = room()
    spots = tuple(
        Spot(setting=scale, budget=1.0, share=share, parameters=1)
        for scale, share in ((-1.0, 0.5), (1.0, 1.0))
    )

    class Signed(nn.Module):
        sign = 1.0

        def forward(self, prepared: Any) -> torch.Tensor:
            found: torch.Tensor = self.sign * one.dense(prepared)
            return found

    def choose(network: Any, setting: float) -> None:
        network.sign = setting

    found = one.answer(Runner(network=Signed(), choose=choose, spots=spots), "test")
    with torch.no_grad():
        logits = one.dense({"rows": rows()["test"][0]}).numpy()
    np.testing.assert_array_equal(found, [logits.argmin(axis=1), logits.argmax(axis=1)])


class Normed(nn.Module):
    """The dense network behind a BatchNorm whose statistics are of other rows."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12, affine=False)
        self.rest = dense()

    def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = self.rest({"rows": self.norm(prepared["rows"])})
        return found


def test_batch_norm_is_measured_at_each_of_several_budgets_and_given_back() -> None:
    inputs = rows()["train"][0]
    other = torch.full((12,), 3.0)
    found = {}
    for several in (False, True):
        network = Normed()
        network.get_buffer("norm.running_mean").copy_(other)
        spots = tuple(
            Spot(setting=None, budget=share, share=share, parameters=1)
            for share in ((0.5, 1.0) if several else (1.0,))
        )
        runner = Runner(network=network, choose=choose_nothing, spots=spots)
        found[several] = room().answer(runner, "test")[-1]
        assert network.get_buffer("norm.running_mean").equal(other)
    test = rows()["test"][0]
    measured = (test - inputs.mean(dim=0)) / inputs.std(dim=0)
    for several, expected in ((False, test - other), (True, measured)):
        with torch.no_grad():
            wanted = dense()({"rows": expected}).argmax(dim=1).numpy()
        assert (found[several] == wanted).mean() > 0.97
    assert (found[True] == found[False]).mean() < 0.9


# --- one network, once ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """A contestant that counts how often its network is made."""

    ground: Ground
    made: list[int] = dataclasses.field(default_factory=list)
    name: str = "half"
    about: str = ""
    seeds: int = 1
    timed: bool = False

    def parts(self) -> tuple[str, ...]:
        return ("",)

    def made_by(self) -> dict[str, Any]:
        return {}

    def runner(self, part: str, seed: int) -> Runner:
        del part
        self.made.append(seed)
        spot = Spot(setting=None, budget=1.0, share=1.0, parameters=1, trained=True)
        return Runner(network=dense(), choose=choose_nothing, spots=(spot,), lessons=(None,))


def test_a_finished_network_is_read_back_and_one_of_other_rows_is_not(tmp_path: Path) -> None:
    one = Counted(ground=ground())
    first = answers_of(one, "", 0, room(), tmp_path, made_from="a")
    again = answers_of(one, "", 0, room(), tmp_path, made_from="a")
    assert one.made == [0]
    assert again.answered == first.answered
    np.testing.assert_array_equal(again.predicted["test"], first.predicted["test"])
    answers_of(one, "", 0, room(), tmp_path, made_from="b")
    assert one.made == [0, 0]


class Stopped(Exception):  # noqa: N818 - stands for a kill
    """In the second epoch."""


class Stopping:
    """A progress that stops there."""

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        del label, total, unit
        seen = 0

        def bar(rows: int) -> None:
            nonlocal seen
            seen += rows
            if seen > 203 + 64:
                raise Stopped

        yield bar

    def say(self, text: str) -> None: ...
    def detail(self, text: str) -> None: ...


def test_a_network_that_broke_off_is_gone_on_with(tmp_path: Path) -> None:
    one, whole = Counted(ground=ground()), tmp_path / "whole"
    reference = answers_of(one, "", 0, room(), whole, made_from="a")

    folder = tmp_path / "broken"
    with pytest.raises(Stopped):
        answers_of(one, "", 0, room(progress=Stopping()), folder, made_from="a")
    assert not (folder / RECORD).exists()
    found = answers_of(one, "", 0, room(), folder, made_from="a")
    np.testing.assert_array_equal(found.predicted["test"], reference.predicted["test"])
    assert found.answered.updates == reference.answered.updates


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    one = Counted(ground=ground())
    answers_of(one, "", 0, room(), tmp_path, made_from="a")
    other = room(recipe=dataclasses.replace(room().recipe, learning_rate=0.5))
    with pytest.raises(CheckpointError, match="learning_rate"):
        answers_of(one, "", 0, other, tmp_path, made_from="b")


def test_the_dense_network_is_answered_as_it_is(tmp_path: Path) -> None:
    found = answers_of(dense_of(ground()), "", 0, room(), tmp_path, made_from="a")
    with torch.no_grad():
        logits = dense()({"rows": rows()["test"][0]}).numpy()
    np.testing.assert_array_equal(found.predicted["test"][0], logits.argmax(axis=1))
    assert found.answered.updates == 0


# --- time -----------------------------------------------------------------------------------------


def test_a_slow_minute_slows_no_call_alone() -> None:
    """A clock by hand: call b takes twice as long, and two rounds of six are slow for both."""
    now = [0.0]
    order: list[str] = []

    def call(name: str, seconds: float) -> Any:
        def run() -> None:
            slow = 10.0 if 4 <= len(order) < 8 else 1.0
            order.append(name)
            now[0] += seconds * slow

        return (lambda: None), run

    calls = {"a": call("a", 1.0), "b": call("b", 2.0)}
    found = interleaved(calls, repeats=6, seconds=1e9, clock=lambda: now[0])
    assert found == {"a": 1.0, "b": 2.0}
    assert order[:4] == ["a", "b", "b", "a"]
    assert len(order) == 2 * (WARM_UP + 6)


def test_first_calls_are_not_timed() -> None:
    now, calls = [0.0], [0]

    def call() -> None:
        calls[0] += 1
        now[0] += 100.0 if calls[0] <= WARM_UP else 1.0

    found = interleaved({"a": (lambda: None, call)}, repeats=1, seconds=1e9, clock=lambda: now[0])
    assert found == {"a": 1.0}


def test_making_ready_is_not_timed_and_little_time_is_few_rounds() -> None:
    now = [0.0]

    def spend(seconds: float) -> Any:
        def run() -> None:
            now[0] += seconds

        return run

    found = interleaved(
        {"a": (spend(100.0), spend(1.0))}, repeats=50, seconds=10.0, clock=lambda: now[0]
    )
    assert found == {"a": 1.0}
    assert now[0] == (WARM_UP + LEAST) * 101.0
