"""The one training loop: students, their baselines, and teaching the teacher.

Everything that decides a step is a function of the recipe, the seed, the epoch and the step
(order of rows, learning rate, dropout), or is in the checkpoint (weights, BatchNorm statistics,
the optimiser's moments, history). So a run that is killed at any moment and started again ends, on
a CPU with the same number of threads, with the weights of a run that never was: bit for bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from students.checkpoint import plain_settings
from students.errors import DivergedError
from students.feeds import Feed, Rows, shuffled_order
from students.loop import Evaluate, Loop, Order
from students.parallel import Released, follows, join_world
from students.recipe import Recipe
from students.state import FitResult
from students.stepping import Loss
from students.steps import place


def _nothing(_: Any) -> None:
    """Serve as the callback of who does not want to know."""


def fit(
    network: nn.Module,
    *,
    feed: Feed,
    loss: Loss,
    evaluate: Evaluate,
    recipe: Recipe,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    order: Order | None = None,
    on_rows: Callable[[int], None] = _nothing,
    on_loss: Callable[[float], None] = _nothing,
    on_epoch: Callable[[dict[str, Any]], None] = _nothing,
    on_note: Callable[[str], None] = _nothing,
    checkpoint_seconds: float = 300.0,
) -> FitResult:
    """Train ``network`` in place; continue where ``folder`` says an earlier run stopped.

    The network gives a tensor or a dict of tensors; ``loss`` gets them in float32, and is the
    mean over rows of one number a row, or else knows only the rows it is given at a time.
    ``order`` says which rows an epoch learns, in which batches: not all of ``feed`` need be
    among them, but every epoch has as many steps as the first.
    ``settings`` (JSON values) are all else that decides the result: a checkpoint made with
    other settings or another recipe raises ``CheckpointError`` with the first that differs.

    ``on_rows`` is told how many rows were learned, the skipped ones of a resumed run first;
    ``on_loss`` the mean loss of the epoch so far, about once a second; ``on_epoch`` the epoch's
    line of metrics; ``on_note`` what the user should know, as it happens: the result's notes.

    Started in several processes (``students.parallel``), each with the same arguments, they learn
    the rows of each batch together. The leader alone evaluates, writes and calls back.

    A checkpoint is written after each epoch, and within one after ``checkpoint_seconds``.
    Raises ``DivergedError`` when the loss or the gradient is not finite, with the checkpoints left
    as they are, and ``MemoryShortError`` when one row is too many for the memory.
    Leaves the network in eval mode with the weights of the best epoch.
    """
    world = join_world()
    leads = world is None or world.leads
    if world is not None and leads:
        world.announce_training()
    place(network, device)
    loop = Loop(
        network=network,
        feed=feed,
        loss=loss,
        evaluate=evaluate,
        recipe=recipe,
        folder=folder,
        made_by=plain_settings({**asdict(recipe), **(settings or {})}),
        device=torch.device(device),
        order=order or partial(_shuffled, feed.rows, recipe),
        on_rows=on_rows if leads else _nothing,
        on_loss=on_loss if leads else _nothing,
        on_epoch=on_epoch if leads else _nothing,
        on_note=on_note if leads else _nothing,
        checkpoint_seconds=checkpoint_seconds,
        world=world,
    )
    devices = [loop.device] if loop.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            result = loop.finish()
    except DivergedError as error:
        if follows():  # the leader says it
            raise Released from error
        raise
    if follows():
        raise Released
    return result


def _shuffled(rows: int, recipe: Recipe, epoch: int) -> list[Rows]:
    return shuffled_order(rows, recipe.batch_size, seed=recipe.seed, epoch=epoch)
