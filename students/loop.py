"""One training in progress: its epochs, one after the other, until it is finished."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from students.errors import CheckpointError, DivergedError, RecipeError
from students.feeds import Batch, Feed, Rows
from students.journal import Journal
from students.keeping import Keeper
from students.parallel import World
from students.recipe import Evaluation, Recipe
from students.state import FitResult, State
from students.stepping import Loss, Stepper
from students.steps import Watch, step_seeds

_CHECK_EVERY = 32  # steps between looks at the loss on a GPU
_TELL_SECONDS = 1.0  # between two words on the loss
_MOST_SKIPPED = 32  # a float16 gradient that is too large so often is so at any scale

Order = Callable[[int], list[Rows]]  # epoch, from 1 -> the rows of each batch
Evaluate = Callable[[nn.Module], Evaluation]


@final
class _Notes:
    """What is said of a training: told at once, and kept.

    No method of the loop, which would close a ring around network and optimizer: all their tensors
    would wait for the garbage collector, which counts objects and not bytes.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.kept: list[str] = []
        self._tell = tell

    def __call__(self, text: str) -> None:
        self.kept.append(text)
        self._tell(text)


class Loop:
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
        on_loss: Callable[[float], None],
        on_epoch: Callable[[dict[str, Any]], None],
        on_note: Callable[[str], None],
        checkpoint_seconds: float,
        world: World | None,
    ) -> None:
        self.network = network
        self.feed = feed
        self.evaluate = evaluate
        self.recipe = recipe
        self.folder = folder
        self.made_by = made_by
        self.device = device
        self.order = order
        self.on_rows = on_rows
        self.on_loss = on_loss
        self.on_epoch = on_epoch
        self.note = _Notes(on_note)
        self.checkpoint_seconds = checkpoint_seconds
        self.world = world
        self.leads = world is None or world.leads
        self.state = State(notes=self.note.kept)
        self.steps = len(order(1))
        self.stepper = Stepper(
            network,
            loss=loss,
            recipe=recipe,
            device=device,
            steps=self.steps * recipe.epochs,
            world=world,
            on_note=self.note,
        )
        self.keeper = Keeper(folder, made_by=made_by, stepper=self.stepper, leads=self.leads)

    def finish(self) -> FitResult:
        """All epochs that are not done yet."""
        found = self.keeper.resume(self._finished)
        if found is not None:
            self.state, self.note.kept = found, found.notes
            for note in self.keeper.notes:
                self.note(note)
        if self.world is not None:
            self._start_together(self.world)
        done = self.state.history
        self.on_rows(sum(_count(self.order(epoch + 1)) for epoch in range(len(done))))
        self.since = time.perf_counter()
        with self._journal() as journal:
            while not self._finished(self.state):
                entry = self._epoch()
                if journal is not None:
                    journal.write(entry)
                self.on_epoch(entry)
        return self._result(resumed=found is not None)

    def _finished(self, state: State) -> bool:
        return state.epoch > self.recipe.epochs or self._out_of_patience(state)

    def _out_of_patience(self, state: State) -> bool:
        patience = self.recipe.patience
        return 0 < patience <= state.epoch - 1 - state.best_epoch

    def _journal(self) -> AbstractContextManager[Journal | None]:
        if not self.leads:
            return nullcontext()
        return Journal(self.folder, history=self.state.history)

    def _epoch(self) -> dict[str, Any]:
        state, order = self.state, self._order()
        self.on_rows(_count(order[: state.step]))
        self._train(order)
        with self.stepper.kept_weights():
            evaluation = self._evaluate()
            if evaluation.beats(state.best):
                state.best, state.best_epoch = evaluation, state.epoch
                self.keeper.save_best(state.epoch)
        self._tick()
        entry = self._entry(evaluation, _count(order))
        state.history.append(entry)
        state.epoch, state.step, state.loss_sum, state.train_seconds = state.epoch + 1, 0, 0.0, 0.0
        if state.epoch <= self.recipe.epochs and self._out_of_patience(state):
            self.note(
                f"stopped after epoch {state.epoch - 1} of {self.recipe.epochs}: none was better "
                f"than epoch {state.best_epoch}"
            )
        if self.world is not None:
            self._share_memory_troubles(self.world)
        self.keeper.save(state, finished=self._finished(state))
        return entry

    def _entry(self, evaluation: Evaluation, rows: int) -> dict[str, Any]:
        """One line of metrics."""
        state = self.state
        steps = state.epoch * self.steps
        return {
            **{name: float(value) for name, value in evaluation.measures.items()},
            "epoch": state.epoch,
            "step": steps,
            "loss": state.loss_sum / rows,
            "validation_accuracy": float(evaluation.accuracy),
            "validation_loss": float(evaluation.loss),
            "learning_rate": self.recipe.rate(steps - 1, self.stepper.steps),
            "rows_per_second": rows / max(state.train_seconds, 1e-9),
            "seconds": state.seconds,
        }

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
        state, before = self.state, (self.state.epoch - 1) * self.steps
        seeds = step_seeds(self.recipe.seed, state.epoch, len(order))
        self.network.train()
        watch = Watch(every=1 if self.device.type == "cpu" else _CHECK_EVERY)
        rows = _count(order[: state.step])
        begun = saved = told = time.perf_counter()
        for batch in self._batches(order[state.step :]):
            size, seed = len(order[state.step]), seeds[state.step]
            watch.add(*self.stepper.step(batch, rows=size, seed=seed, at=before + state.step), size)
            state.step += 1
            rows += size
            self.on_rows(size)
            now = time.perf_counter()
            due = now - saved > self.checkpoint_seconds
            if due or watch.full or state.step == len(order):
                self._settle(watch)
                if now - told > _TELL_SECONDS:
                    self.on_loss(state.loss_sum / rows)
                    told = now
            if due and state.step < len(order):
                now = time.perf_counter()
                state.train_seconds += now - begun
                self._tick()
                self.keeper.save(state, finished=False)
                begun = saved = time.perf_counter()
        state.train_seconds += time.perf_counter() - begun

    def _batches(self, order: list[Rows]) -> Iterator[Batch | None]:
        if self.world is None:
            return self.feed.batches(order)
        return self.world.batches(self.feed, order)

    def _settle(self, watch: Watch) -> None:
        """Look at the steps taken since the last time."""
        state = self.state
        for behind, (loss, norm, size) in watch.values():
            step = state.step - behind
            if not math.isfinite(loss):
                raise self._diverged("the loss", loss, step)
            if math.isfinite(norm):
                state.skipped = 0
            elif self.stepper.scaler is None or state.skipped >= _MOST_SKIPPED:
                raise self._diverged("the gradient", norm, step)
            else:  # its scale was too large, and is made smaller until it is not
                state.skipped += 1
            state.loss_sum += loss * size

    def _evaluate(self) -> Evaluation:
        """Of the network as it is now; the leader's, for all."""
        if self.world is None:
            found = self.evaluate(self.network)
        else:
            found = Evaluation(**self.world.told(lambda: asdict(self.evaluate(self.network))))
        if not math.isfinite(found.loss):
            raise self._diverged("the validation loss", found.loss, self.steps)
        return found

    def _start_together(self, world: World) -> None:
        """Begin with the leader's weights, where all mean the same training."""
        state = self.state
        mine = {**self.made_by, "epoch": state.epoch, "step": state.step, "steps": self.steps}
        leaders = world.told(lambda: mine)
        other = next((name for name in sorted(leaders) if leaders[name] != mine.get(name)), None)
        if not world.least(int(other is None)):
            said = (
                "another process means another training: see what it says"
                if other is None
                else f"process {world.rank} trains with {other} = {mine.get(other)!r} and process "
                f"0 with {leaders[other]!r}"
            )
            raise RecipeError(f"{said}; start all with the same settings and folder")
        if not self._finished(state):
            world.start_alike(self.network)

    def _share_memory_troubles(self, world: World) -> None:
        """Learn as few rows at a time as the process that has to take the fewest."""
        rows = self.stepper.micro_batch or self.recipe.batch_size
        least = world.least(rows)
        if least < rows:
            self.stepper.micro_batch = least
            self.note(f"out of memory in another process: now {least} rows at a time in all")

    def _diverged(self, what: str, value: float, step: int) -> DivergedError:
        kept = self.state.history
        safe = (
            f"the checkpoint of epoch {len(kept)} is kept in {self.keeper.folder}"
            if kept
            else "no epoch was finished"
        )
        return DivergedError(
            f"{what} became {value} at step {step} of {self.steps} in epoch {self.state.epoch}; "
            f"{safe}; try a learning rate below {self.recipe.learning_rate:g}"
        )

    def _result(self, *, resumed: bool) -> FitResult:
        state = self.state
        if self.world is not None:
            self.world.wait()  # for the leader to have written
        self.keeper.load_best()
        self.network.eval()
        if state.best is None:
            raise CheckpointError(f"{self.keeper.folder} says that no epoch was ever best")
        rates = [entry["rows_per_second"] for entry in state.history]
        return FitResult(
            epochs=self.recipe.epochs,
            last_epoch=len(state.history),
            best_epoch=state.best_epoch,
            best=state.best,
            history=tuple(state.history),
            seconds=state.seconds,
            rows_per_second=len(rates) / sum(1 / rate for rate in rates),
            resumed=resumed,
            notes=tuple(state.notes),
        )

    def _tick(self) -> None:
        now = time.perf_counter()
        self.state.seconds += now - self.since
        self.since = now


def _count(order: Sequence[Rows]) -> int:
    return sum(len(rows) for rows in order)
