"""Several processes that train one network, as ``torchrun`` and ``accelerate launch`` start them.

Each takes its share of the rows of every batch; the gradients are added up before the step, so
that all take the same step and hold the same weights. The first process leads: it alone validates,
writes and talks. They know of each other by the usual variables: ``RANK``, ``WORLD_SIZE``,
``LOCAL_RANK``, ``MASTER_ADDR``, ``MASTER_PORT``.

A command that trains does other things too, and those only the leader does. The others wait until
it says that a training begins, find their own way there through what it has finished, and are
released when that training ends: ``following``.
"""

import atexit
import functools
import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from students.errors import RecipeError, StudentError
from students.feeds import Batch, Feed, Rows

_TRAIN, _END = "train", "end"
_LONG = timedelta(days=30)  # a process that is gone ends the others: none waits this long
_SEED_STRIDE = 0x9E3779B97F4A7C15  # odd, so that the processes' seeds differ

_follows: ContextVar[bool] = ContextVar("_follows", default=False)


class Released(BaseException):
    """The training that a following process took part in is over; not an error."""


@dataclass(eq=False)
class World:
    """The processes of one training, as one of them sees them."""

    rank: int
    size: int
    store: Any  # torch.distributed.Store: what they say to each other outside a training
    _told: int = 0
    _learned: list[bool] = field(default_factory=list)  # which parameters got a gradient last

    @property
    def leads(self) -> bool:
        """Whether this is the process that validates, writes and talks."""
        return self.rank == 0

    def announce_training(self) -> None:
        """Call those that wait in ``training_begins``; the leader's, as is the next."""
        self._announce(_TRAIN)

    def announce_end(self) -> None:
        """Say that no training is left."""
        self._announce(_END)

    def training_begins(self) -> bool:
        """Wait, however long it takes, for the next training; False when there is none."""
        try:
            event = self.store.get(f"event/{self._told}").decode()
        except RuntimeError:  # the leader is gone, and where it kept this with it
            return False
        self._told += 1
        return bool(event == _TRAIN)

    def _announce(self, event: str) -> None:
        self.store.set(f"event/{self._told}", event)
        self._told += 1

    def share(self, rows: Rows) -> Rows:
        """Cut out this process's rows of a batch: shares differ by one row at most."""
        return np.array_split(rows, self.size)[self.rank]

    def seed(self, seed: int) -> int:
        """Of this process: each draws other dropout; the leader draws that of one alone."""
        return (seed + self.rank * _SEED_STRIDE) % (1 << 63)

    def batches(self, feed: Feed, order: Sequence[Rows]) -> Iterator[Batch | None]:
        """Yield this process's share of every batch; None where there are too few rows."""
        shares = [self.share(rows) for rows in order]
        found = iter(feed.batches([share for share in shares if len(share)]))
        for share in shares:
            yield next(found) if len(share) else None

    def sum_gradients(
        self,
        parameters: Sequence[Tensor],
        averaged: Sequence[Tensor],
        loss: Tensor,
        *,
        share: float,
    ) -> Tensor:
        """Add up gradients and losses, and average ``averaged`` by ``share``; all in one message.

        ``share`` is that of this process in the rows of the batch; gradients and loss are
        weighed by it already. Returns the loss of the whole batch.
        """
        if share:  # a parameter without a gradient keeps none, so that it does not decay
            self._learned = [p.grad is not None for p in parameters]
        elif len(self._learned) != len(parameters):
            self._learned = [True] * len(parameters)
        learned = [p for p, one in zip(parameters, self._learned, strict=True) if one]
        for parameter in learned:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        parts: list[Tensor] = [p.grad for p in learned if p.grad is not None]
        weighed = [loss, *parts, *(tensor * share for tensor in averaged)]
        total = torch.cat([tensor.reshape(-1).float() for tensor in weighed])
        _told_of_loss(distributed.all_reduce)(total)
        found, *sums = torch.split(total, [tensor.numel() for tensor in weighed])
        with torch.no_grad():
            for tensor, one in zip((*parts, *averaged), sums, strict=True):
                tensor.copy_(one.view(tensor.shape))
        return found.reshape(())

    def start_alike(self, network: nn.Module) -> None:
        """Give every process the leader's weights."""
        for tensor in network.state_dict().values():
            whole = tensor.contiguous()
            _told_of_loss(distributed.broadcast)(whole, src=0)
            tensor.copy_(whole)

    def told(self, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gave to the leader, which alone calls it: JSON values."""
        data = json.dumps(make()).encode() if self.leads else b""
        length = torch.tensor([len(data)])
        _told_of_loss(distributed.broadcast)(length, src=0)
        message = torch.zeros(int(length), dtype=torch.uint8)
        if self.leads:
            message.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        _told_of_loss(distributed.broadcast)(message, src=0)
        return json.loads(message.numpy().tobytes())

    def least(self, value: int) -> int:
        """Return the smallest that any process says."""
        found = torch.tensor([value])
        _told_of_loss(distributed.all_reduce)(found, op=distributed.ReduceOp.MIN)
        return int(found)

    def wait(self) -> None:
        """Go on only when all have come here."""
        self.least(0)


def join_world() -> World | None:
    """Meet the other processes, once; None where there are none.

    Raises ``RecipeError`` where they cannot be found, or have no GPU each on a machine with GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE") or 1)
    return None if size == 1 else _joined(size)


@functools.cache
def _joined(size: int) -> World:
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        local, count = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
        if local >= count:
            raise RecipeError(
                f"process {local + 1} on this machine has no GPU of its own: there are {count}; "
                f"start as many processes as GPUs, or hide them with CUDA_VISIBLE_DEVICES="
            )
        torch.cuda.set_device(local)
    try:
        store, rank, size = next(iter(rendezvous("env://")))
    except ValueError as error:
        raise RecipeError(
            f"WORLD_SIZE is {size}, but the other processes cannot be found ({error}); start all "
            f"with torchrun or accelerate launch"
        ) from error
    store.set_timeout(_LONG)
    group, events = (
        distributed.PrefixStore(name, store)  # type: ignore[attr-defined]
        for name in ("group", "events")
    )
    # its defaults hold the group there is when it is first imported, by an optimizer say; a group
    # that is held outlives ``_leave``, and its threads may abort the process as Python ends
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=_LONG)
    atexit.register(_leave)
    return World(rank=rank, size=size, store=events)


@contextmanager
def following() -> Iterator[None]:
    """Within, a training raises ``Released`` where it would return."""
    token = _follows.set(True)
    try:
        yield
    finally:
        _follows.reset(token)


def follows() -> bool:
    """Whether this process is here for a training alone."""
    return _follows.get()


def running_statistics(network: nn.Module) -> list[Tensor]:
    """Return what BatchNorm and its like learn without a gradient."""
    found = (
        getattr(module, name, None)
        for module in network.modules()
        for name in ("running_mean", "running_var")
    )
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def _told_of_loss(collective: Callable[..., Any]) -> Callable[..., Any]:
    """Say in a line that another process is gone; that one has said why."""

    def call(*arguments: Any, **more: Any) -> Any:
        try:
            return collective(*arguments, **more)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise StudentError(
                "another process of this training has ended: see what it said; start all of them "
                "again to go on from the last checkpoint"
            ) from error

    return call


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
