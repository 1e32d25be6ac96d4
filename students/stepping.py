"""One step of training: gradient, clipping, optimiser, average; whole or not at all.

A batch may be taken some rows at a time. The gradients of the parts add up to that of the batch,
each weighed by its share of the rows, where the loss is a mean over rows and no layer looks across
them. BatchNorm does look across them, and some losses compare rows with one another: those then
see the rows of a part and not of the batch. Where memory runs out, the parts are halved and
the step is taken again, from the same weights, statistics and random numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from students.averaging import Average
from students.errors import MemoryShortError, RecipeError
from students.feeds import Batch
from students.parallel import World, running_statistics
from students.precision import autocast, gradient_scaler, working_type
from students.recipe import Recipe
from students.steps import clip_gradient, forget_gradients, make_optimizer, set_seed, to_device

Forward = Callable[[dict[str, Tensor]], Any]  # inputs -> a Tensor, or a dict of them, in float32


@runtime_checkable
class Passes(Protocol):
    """A loss that runs the network several times a step, and adds up the gradients itself."""

    def gradient(
        self,
        forward: Forward,
        inputs: dict[str, Tensor],
        targets: dict[str, Tensor],
        *,
        at: int,
        backward: Callable[[Tensor], None],
    ) -> Tensor:
        """Call ``backward`` with each part of the loss of step ``at`` (from 0); their sum.

        The same step may be asked for several times: of parts of its batch, or once more.
        """
        ...


# outputs of the network (a Tensor, or a dict of them), targets -> scalar
Loss = Callable[[Any, dict[str, Tensor]], Tensor] | Passes

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


class Stepper:
    """Everything a step changes: the network's weights, their average, the optimiser's moments."""

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: Loss,
        recipe: Recipe,
        device: torch.device,
        steps: int,
        world: World | None,
        on_note: Callable[[str], None],
    ) -> None:
        dtype = working_type(recipe.precision, device)
        self.network = network
        self.loss = loss
        self.recipe = recipe
        self.device = device
        self.steps = steps  # in all epochs
        self.world = world
        self.on_note = on_note
        self.optimizer = make_optimizer(network, recipe, device)
        self.scaler = gradient_scaler(dtype, device)
        self.average = Average(network, recipe.ema) if recipe.ema else None
        self.micro_batch = recipe.micro_batch
        self._dtype = dtype
        self._compiled = recipe.compile
        self._forward: Callable[[Any], Any] = torch.compile(network) if recipe.compile else network
        self._statistics = [] if world is None else running_statistics(network)
        self._buffers = list(network.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]

    def step(self, batch: Batch | None, *, rows: int, seed: int, at: int) -> tuple[Tensor, Tensor]:
        """Take the step ``at`` (from 0, of all); the loss and the gradient's norm, not looked at.

        ``rows`` are those of the whole batch. ``batch`` is this process's share of it, and None
        where it has no share.
        """
        loss = self._gradient(batch, rows, seed, at)
        if self.world is not None:
            loss = self._summed(self.world, loss, batch, rows)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradient(self.optimizer, self.recipe.clip)
        rate = self.recipe.rate(at, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("pace", 1.0)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.average is not None:
            self.average.update(at + 1)
        return loss, norm

    def kept_weights(self) -> AbstractContextManager[None]:
        """Within, the network has the weights that are validated and kept: the averaged ones."""
        return nullcontext() if self.average is None else self.average.in_place()

    def _gradient(self, batch: Batch | None, rows: int, seed: int, at: int) -> Tensor:
        """Give every parameter the gradient of this process's share; returns its share of loss."""
        if batch is None:
            forget_gradients(self.optimizer)
            return torch.zeros((), device=self.device)
        self._keep_buffers()
        while True:
            try:
                set_seed(seed if self.world is None else self.world.seed(seed), self.device)
                return self._accumulated(batch, rows, at)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise RecipeError(
                    "BatchNorm learns from no single row: take a batch_size, or a micro_batch, of "
                    "at least 2"
                ) from error
            except RuntimeError as error:
                mend = self._mend(error)
                if mend is None:
                    raise
            # only here, out of the handler: the error holds on to the memory it is about
            mend(batch)
            self._go_back()

    def _accumulated(self, batch: Batch, rows: int, at: int) -> Tensor:
        mine, loss_of = _rows(batch), self.loss
        if isinstance(loss_of, Passes):
            return self._passed(loss_of, batch, rows, at)
        if mine == rows and not 0 < self.micro_batch < rows:
            loss = self._loss_of(loss_of, batch)
            forget_gradients(self.optimizer)
            self._backward(loss)
            return loss.detach()
        forget_gradients(self.optimizer)
        total = torch.zeros((), device=self.device)
        for part in _parts(batch, mine, self.micro_batch or mine):
            loss, share = self._loss_of(loss_of, part), _rows(part) / rows
            self._backward(loss, share=share)
            total += loss.detach() * share
        return total

    def _passed(self, passes: Passes, batch: Batch, rows: int, at: int) -> Tensor:
        mine = _rows(batch)
        forget_gradients(self.optimizer)
        total = torch.zeros((), device=self.device)
        for part in _parts(batch, mine, self.micro_batch or mine):
            share = _rows(part) / rows
            inputs, targets = (to_device(given, self.device) for given in part)
            take = partial(self._backward, share=share)
            loss = passes.gradient(self._outputs, inputs, targets, at=at, backward=take)
            total += loss.detach() * share
        return total

    def _loss_of(self, loss: Callable[[Any, dict[str, Tensor]], Tensor], batch: Batch) -> Tensor:
        inputs, targets = (to_device(part, self.device) for part in batch)
        return loss(self._outputs(inputs), targets)

    def _outputs(self, inputs: dict[str, Tensor]) -> Any:
        with autocast(self._dtype, self.device):
            outputs = self._forward(inputs)
        return _float32(outputs)

    def _backward(self, loss: Tensor, *, share: float = 1.0) -> None:
        if share != 1.0:
            loss = loss * share
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]

    def _summed(self, world: World, loss: Tensor, batch: Batch | None, rows: int) -> Tensor:
        """Put together what the processes found: gradients, loss, statistics of BatchNorm."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        share = 0.0 if batch is None else _rows(batch) / rows
        return world.sum_gradients(parameters, self._statistics, loss, share=share)

    def _mend(self, error: RuntimeError) -> Callable[[Batch], None] | None:
        """Find what may be done so that the same step goes well; None where nothing may."""
        if _is_out_of_memory(error):
            return self._halve
        # of torch.compile: no compiler, or a network it cannot take
        if self._compiled and type(error).__module__.startswith(("torch._dynamo", "torch._ind")):
            reason = _line(error)
            return lambda _: self._go_eager(reason)
        return None

    def _halve(self, batch: Batch) -> None:
        mine = _rows(batch)
        tried = min(self.micro_batch or mine, mine)
        if tried == 1:
            raise MemoryShortError(
                f"out of memory on {self.device} with one row at a time: the network does not fit; "
                f"take a smaller one, smaller inputs, or another --device"
            )
        self.micro_batch = -(-tried // 2)
        self.on_note(
            f"out of memory with {tried} rows at a time: batches are now made of "
            f"{self.micro_batch} rows at a time, their gradients added"
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _go_eager(self, reason: str) -> None:
        self._compiled, self._forward = False, self.network
        self.on_note(f"torch.compile failed, so the network runs as it is: {reason}")

    @torch.no_grad()
    def _keep_buffers(self) -> None:
        """Remember the running statistics: a step that breaks off has changed some of them."""
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    @torch.no_grad()
    def _go_back(self) -> None:
        forget_gradients(self.optimizer)
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.inputs.values())))


def _parts(batch: Batch, rows: int, most: int) -> Iterator[Batch]:
    """Cut a batch into as few parts of at most ``most`` rows as can be, all about as long."""
    count = -(-rows // most)
    inputs, targets = (
        {name: tensor.tensor_split(count) for name, tensor in part.items()} for part in batch
    )
    for index in range(count):
        yield Batch(
            {name: cut[index] for name, cut in inputs.items()},
            {name: cut[index] for name, cut in targets.items()},
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)  # the CPU's and Apple's allocators have no class of their own
    return any(words in text for words in _OUT_OF_MEMORY)


def _float32(outputs: Any) -> Any:
    """What a network gave, out of the autocast's precision."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in outputs.items()
    }


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
