"""The one training loop: students, their baselines, and teaching the teacher.

Everything that decides a step is a function of the recipe, the seed, the epoch and the step
(order of rows, learning rate, dropout), or is in the checkpoint (weights, BatchNorm statistics,
the optimiser's moments, history). So a run that is killed at any moment and started again ends, on
a CPU with the same number of threads, with the weights of a run that never was: bit for bit.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from students.checkpoint import (
    PREVIOUS,
    Checkpoint,
    clear_scratch,
    load_checkpoint,
    plain_settings,
    read_tensors,
    same_settings,
    save_checkpoint,
    write_tensors,
)
from students.errors import CheckpointError, DivergedError, RecipeError
from students.feeds import Batch, Feed, Rows, shuffled_order
from students.journal import Journal
from students.recipe import Evaluation, Recipe
from students.state import FitResult, State
from students.steps import (
    Watch,
    clip_gradient,
    forget_gradients,
    make_optimizer,
    moments_of,
    place,
    restore_moments,
    set_seed,
    step_seeds,
    to_device,
)

CHECKPOINTS = "checkpoints"
BEST = "best.safetensors"
_CHECK_EVERY = 32  # steps between looks at the loss on a GPU

# outputs of the network (a Tensor, or a dict of them), targets -> scalar
Loss = Callable[[Any, dict[str, Tensor]], Tensor]
Order = Callable[[int], list[Rows]]  # epoch, from 1 -> the rows of each batch
Evaluate = Callable[[nn.Module], Evaluation]


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
    on_epoch: Callable[[dict[str, Any]], None] = _nothing,
    on_note: Callable[[str], None] = _nothing,
    checkpoint_seconds: float = 300.0,
) -> FitResult:
    """Train ``network`` in place; continue where ``folder`` says an earlier run stopped.

    The network gives a tensor or a dict of tensors; ``loss`` gets them in float32.
    ``order`` says which rows an epoch learns, in which batches: not all of ``feed`` need be
    among them, but every epoch has as many steps as the first.
    ``settings`` (JSON values) are all else that decides the result: a checkpoint made with
    other settings or another recipe raises ``CheckpointError`` with the first that differs.
    ``on_rows`` is told how many rows were learned, the skipped ones of a resumed run first;
    ``on_note`` what the user should know, as it happens: the result's notes.
    A checkpoint is written after each epoch, and within one after ``checkpoint_seconds``.
    Raises ``DivergedError`` when the loss or the gradient is not finite; the checkpoints stay.
    Leaves the network in eval mode with the weights of the best epoch.
    """
    made_by = plain_settings({**asdict(recipe), **(settings or {})})
    run = _Run(
        network=place(network, device),
        feed=feed,
        loss=loss,
        evaluate=evaluate,
        recipe=recipe,
        folder=folder,
        made_by=made_by,
        device=torch.device(device),
        order=order or partial(_shuffled, feed.rows, recipe),
        on_rows=on_rows,
        on_epoch=on_epoch,
        on_note=on_note,
        checkpoint_seconds=checkpoint_seconds,
    )
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        return run.finish()


def _shuffled(rows: int, recipe: Recipe, epoch: int) -> list[Rows]:
    return shuffled_order(rows, recipe.batch_size, seed=recipe.seed, epoch=epoch)


def _count(order: Sequence[Rows]) -> int:
    return sum(len(rows) for rows in order)


def _float32(outputs: Any) -> Any:
    """What a network gave, out of the autocast's precision."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in outputs.items()
    }


class _Run:
    """One training in progress."""

    def __init__(
        self,
        *,
        network: nn.Module,
        feed: Feed,
        loss: Loss,
        evaluate: Evaluate,
        recipe: Recipe,
        folder: Path,
        made_by: dict[str, Any],
        device: torch.device,
        order: Order,
        on_rows: Callable[[int], None],
        on_epoch: Callable[[dict[str, Any]], None],
        on_note: Callable[[str], None],
        checkpoint_seconds: float,
    ) -> None:
        self.network = network
        self.feed = feed
        self.loss = loss
        self.evaluate = evaluate
        self.recipe = recipe
        self.folder = folder
        self.made_by = made_by
        self.device = device
        self.order = order
        self.on_rows = on_rows
        self.on_epoch = on_epoch
        self.on_note = on_note
        self.checkpoint_seconds = checkpoint_seconds
        self.checkpoints = folder / CHECKPOINTS
        self.optimizer = make_optimizer(network, recipe, device)
        self.state = State()
        self.steps = len(order(1))
        self.notes: list[str] = []

    def finish(self) -> FitResult:
        """All epochs that are not done yet."""
        resumed = self._resume()
        done = self.state.history
        self.on_rows(sum(_count(self.order(epoch + 1)) for epoch in range(len(done))))
        self.since = time.perf_counter()
        global_step = len(done) * self.steps
        with Journal(self.folder, history=done, step=global_step) as journal:
            while self.state.epoch <= self.recipe.epochs:
                entry = self._epoch()
                journal.write(entry)
                self.on_epoch(entry)
        return self._result(resumed)

    def _epoch(self) -> dict[str, Any]:
        state, order = self.state, self._order()
        self.on_rows(_count(order[: state.step]))
        self._train(order)
        evaluation = self.evaluate(self.network)
        if not math.isfinite(evaluation.loss):
            raise self._diverged("the validation loss", evaluation.loss, self.steps)
        self._tick()
        rows = _count(order)
        entry = {
            **{name: float(value) for name, value in evaluation.measures.items()},
            "epoch": state.epoch,
            "step": state.epoch * self.steps,
            "loss": state.loss_sum / rows,
            "validation_accuracy": float(evaluation.accuracy),
            "validation_loss": float(evaluation.loss),
            "learning_rate": self.recipe.rate(state.epoch * self.steps - 1, self._all_steps),
            "rows_per_second": rows / max(state.train_seconds, 1e-9),
            "seconds": state.seconds,
        }
        state.history.append(entry)
        if evaluation.beats(state.best):
            state.best, state.best_epoch = evaluation, state.epoch
            write_tensors(
                self.checkpoints / BEST, self.network.state_dict(), {"epoch": state.epoch}
            )
        state.epoch, state.step, state.loss_sum, state.train_seconds = state.epoch + 1, 0, 0.0, 0.0
        self._save()
        return entry

    def _order(self) -> list[Rows]:
        """Deal the rows of this epoch."""
        order = self.order(self.state.epoch)
        if len(order) != self.steps:
            raise RecipeError(
                f"epoch {self.state.epoch} has {len(order)} steps and the first one has "
                f"{self.steps}; every epoch must have as many"
            )
        return order

    def _train(self, order: list[Rows]) -> None:
        """Take the steps of this epoch that are not done yet."""
        state = self.state
        seeds = step_seeds(self.recipe.seed, state.epoch, len(order))
        self.network.train()
        watch = Watch(every=1 if self.device.type == "cpu" else _CHECK_EVERY)
        begun = saved = time.perf_counter()
        for batch in self.feed.batches(order[state.step :]):
            size = len(order[state.step])
            watch.add(*self._step(batch, state.step, seeds[state.step]), size)
            state.step += 1
            self.on_rows(size)
            due = time.perf_counter() - saved > self.checkpoint_seconds
            if due or watch.full or state.step == len(order):
                self._settle(watch)
            if due and state.step < len(order):
                now = time.perf_counter()
                state.train_seconds += now - begun
                self._tick()
                self._save()
                begun = saved = time.perf_counter()
        state.train_seconds += time.perf_counter() - begun

    def _step(self, batch: Batch, step: int, seed: int) -> tuple[Tensor, Tensor]:
        """One optimiser step; the loss and the gradient's norm, not yet looked at."""
        recipe, at = self.recipe, (self.state.epoch - 1) * self.steps + step
        set_seed(seed, self.device)  # dropout
        inputs, targets = (to_device(part, self.device) for part in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outputs = self.network(inputs)
        loss = self.loss(_float32(outputs), targets)
        forget_gradients(self.optimizer)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradient(self.optimizer, recipe.clip)
        rate = recipe.rate(at, self._all_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.detach(), norm

    def _settle(self, watch: "Watch") -> None:
        """Look at the steps taken since the last time."""
        for behind, (loss, norm, size) in watch.values():
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what, value = ("the gradient", norm) if math.isfinite(loss) else ("the loss", loss)
                raise self._diverged(what, value, self.state.step - behind)
            self.state.loss_sum += loss * size

    def _diverged(self, what: str, value: float, step: int) -> DivergedError:
        kept = self.state.history
        safe = (
            f"the checkpoint of epoch {len(kept)} is kept in {self.checkpoints}"
            if kept
            else "no epoch was finished"
        )
        return DivergedError(
            f"{what} became {value} at step {step} of {self.steps} in epoch {self.state.epoch}; "
            f"{safe}; try a learning rate below {self.recipe.learning_rate:g}"
        )

    def _resume(self) -> bool:
        clear_scratch(self.checkpoints)
        checkpoint = load_checkpoint(self.checkpoints)
        if checkpoint is None:
            return False
        state = checkpoint.state
        same_settings(self.made_by, state["made_by"], what=f"the training in {self.folder}")
        if checkpoint.note:
            self._note(f"went back to the checkpoint before the last: {checkpoint.note}")
        if state["threads"] != torch.get_num_threads():
            self._note(
                f"resumed with {torch.get_num_threads()} threads what was begun with "
                f"{state['threads']}: the last bits may differ from an uninterrupted run"
            )
        self.state = State.from_json(state["progress"])
        if self.state.epoch <= self.recipe.epochs:
            self._restore(checkpoint)
        return True

    def _restore(self, checkpoint: Checkpoint) -> None:
        network: dict[str, Tensor] = {}
        moments: dict[str, Tensor] = {}
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            (network if part == "network" else moments)[rest] = tensor
        try:
            self.network.load_state_dict(network)
        except RuntimeError as error:
            raise CheckpointError(
                f"the checkpoint in {self.checkpoints} is of another network; "
                f"use another run folder, or begin again with --overwrite"
            ) from error
        restore_moments(self.optimizer, moments)

    def _save(self) -> None:
        tensors = {f"network.{n}": t for n, t in self.network.state_dict().items()}
        if self.state.epoch > self.recipe.epochs:
            tensors = {}  # finished: the best epoch is all that will be asked for
        else:
            tensors |= {f"moments.{n}": t for n, t in moments_of(self.optimizer).items()}
        state = {
            "made_by": self.made_by,
            "threads": torch.get_num_threads(),
            "progress": self.state.to_json(),
        }
        save_checkpoint(self.checkpoints, tensors=tensors, state=state)
        if not tensors:
            (self.checkpoints / PREVIOUS).unlink(missing_ok=True)

    def _result(self, resumed: bool) -> FitResult:
        state = self.state
        tensors, _ = read_tensors(self.checkpoints / BEST)
        self.network.load_state_dict(tensors)
        self.network.eval()
        if state.best is None:
            raise CheckpointError(f"{self.checkpoints} says that no epoch was ever best")
        rates = [entry["rows_per_second"] for entry in state.history]
        return FitResult(
            epochs=self.recipe.epochs,
            best_epoch=state.best_epoch,
            best=state.best,
            history=tuple(state.history),
            seconds=state.seconds,
            rows_per_second=len(rates) / sum(1 / rate for rate in rates),
            resumed=resumed,
            notes=tuple(self.notes),
        )

    @property
    def _all_steps(self) -> int:
        return self.steps * self.recipe.epochs

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.on_note(text)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.state.seconds += now - self.since
        self.since = now
