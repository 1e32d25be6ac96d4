"""Several processes learn what one would."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from students import World
from tests.parallel_examples import AVERAGED, lonely, plain, start
from tests.training_examples import BATCH, ROWS, lines, recipe, train, weights


@given(rows=st.integers(0, 50), size=st.integers(1, 9))
def test_the_shares_of_a_batch_are_the_batch_and_about_as_large(rows: int, size: int) -> None:
    batch = np.random.default_rng(0).permutation(rows)
    shares = [World(rank=rank, size=size, store=None).share(batch) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(shares), batch)
    lengths = [len(share) for share in shares]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1


def test_processes_draw_apart_and_the_leader_as_one_alone() -> None:
    seeds = [World(rank=rank, size=4, store=None).seed(2**63 - 5) for rank in range(4)]
    assert seeds[0] == 2**63 - 5
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_gradients_and_losses_add_up_and_statistics_are_weighed_by_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three rows in one process and one in the other; the third parameter learns nothing."""
    messages: list[Tensor] = []

    def all_reduce(message: Tensor) -> None:
        messages.append(message.clone())
        if len(messages) == 2:
            message += messages[0]

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    for rank, (gradient, statistic, share) in enumerate([(1.0, 10.0, 0.75), (5.0, 30.0, 0.25)]):
        parameters = [torch.zeros(2), torch.zeros(3, 1), torch.zeros(1)]
        parameters[0].grad = torch.tensor([gradient, 2.0])
        parameters[1].grad = torch.full((3, 1), -gradient)
        statistics = [torch.full((2,), statistic)]
        world = World(rank=rank, size=2, store=None)
        loss = world.sum_gradients(parameters, statistics, torch.tensor(gradient), share=share)
    assert [None if p.grad is None else p.grad.tolist() for p in parameters] == [
        [6.0, 4.0], [[-6.0]] * 3, None
    ]  # fmt: skip
    assert statistics[0].tolist() == [15.0, 15.0]
    assert float(loss) == 6.0


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes have trained together."""
    folder = tmp_path_factory.mktemp("together")
    for code, told in start("together", folder):
        assert code == 0, told
    return folder


@pytest.fixture(scope="module")
def seen(done: Path) -> list[dict[str, Any]]:
    return [json.loads((done / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(
    ("name", "options"),
    [("plain", {}), ("averaged", {"recipe": recipe(**AVERAGED)}), ("lonely", {"order": lonely})],
)
def test_two_processes_give_what_one_gives(
    done: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    """Uneven shares and a batch of one row are among theirs."""
    train(tmp_path, plain(), **options)
    assert weights(done / name).keys() == weights(tmp_path).keys()
    for key, tensor in weights(tmp_path).items():
        torch.testing.assert_close(weights(done / name)[key], tensor, rtol=0, atol=1e-5, msg=key)
    for ours, theirs in zip(lines(tmp_path), lines(done / name), strict=True):
        for measure in ("loss", "validation_loss", "step", "epoch", "learning_rate"):
            assert ours[measure] == pytest.approx(theirs[measure], rel=1e-5), measure


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="who runs is not to be seen")
def test_no_thread_of_the_group_is_left_when_a_process_ends(done: Path) -> None:
    """One that runs on while Python is taken down can abort a process that has finished."""
    for rank in (0, 1):
        left = json.loads((done / f"left-{rank}.json").read_text())
        assert left
        assert not [name for name in left if "gloo" in name]


def test_the_leader_alone_evaluates_and_tells(seen: list[dict[str, Any]]) -> None:
    batches = [f"{BATCH} rows"] * (ROWS // BATCH) + [f"{ROWS % BATCH} rows"]
    epochs = [["0 rows", *batches, "evaluate", f"epoch {n}"] for n in (1, 2, 3)]
    assert seen[0]["calls"] == ["0 rows", *(call for epoch in epochs for call in epoch)]
    assert seen[1]["calls"] == []
    assert seen[0]["history"] == seen[1]["history"] > 0


def test_batchnorm_counts_alike_and_dropout_falls_apart(seen: list[dict[str, Any]]) -> None:
    assert seen[0]["variances"][0] != seen[1]["variances"][0]  # within a step: of its own rows
    assert seen[0]["masks"] != seen[1]["masks"]
    assert len(seen[0]["variances"]) == len(seen[1]["variances"]) == 8


def test_who_has_the_least_memory_decides_for_all(seen: list[dict[str, Any]], done: Path) -> None:
    expected = "out of memory in another process: now 2 rows at a time in all"
    assert seen[0]["told"] == seen[0]["notes"] == [expected]
    assert seen[1]["told"] == []
    for key, tensor in weights(done / "plain").items():
        torch.testing.assert_close(weights(done / "memory")[key], tensor, rtol=0, atol=1e-5)


def test_processes_that_mean_different_trainings_are_told(seen: list[dict[str, Any]]) -> None:
    assert seen[1]["refused"] == (
        "process 1 trains with data = 'of process 1' and process 0 with 'of process 0'; "
        "start all with the same settings and folder"
    )
    assert seen[0]["refused"].startswith("another process means another training: see what it")


def test_a_loss_that_is_not_finite_in_one_process_stops_all(seen: list[dict[str, Any]]) -> None:
    for one in seen:
        assert "the loss became nan at step 1 of 8 in epoch 1" in one["diverged"]


def test_a_process_that_dies_ends_the_others_and_all_can_go_on(tmp_path: Path) -> None:
    leader, dead = start("killed", tmp_path)
    assert dead[0] == -9
    assert leader[0] == 1
    assert "another process of this training has ended: see what it said" in leader[1]
    for code, told in start("resumed", tmp_path):
        assert code == 0, told
    assert [json.loads((tmp_path / f"resumed-{n}.json").read_text()) for n in (0, 1)] == [True] * 2
    train(tmp_path / "whole", plain())
    for key, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "killed")[key], tensor, rtol=0, atol=1e-5)
