"""Time of all networks of a frontier, measured in turn, at every budget they have."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from distill.config import FrontierConfig, fingerprint
from distill.contest import Contestant, Room, Runner
from distill.contest_curves import Times, Timing
from distill.runs import recall, remember
from distill.stopwatch import interleaved

TIMES = "times.json"


def timed(
    contestants: Sequence[Contestant],
    inputs: Mapping[str, torch.Tensor],
    room: Room,
    *,
    folder: Path,
    settings: FrontierConfig,
) -> Times:
    """Time every network that has layers of its own, all in turn; read back where that was done.

    ``inputs`` is one prepared example, which is repeated to a batch.
    """
    own = [one for one in contestants if one.timed]
    threads = torch.get_num_threads() if room.device == "cpu" else 0
    made_from = fingerprint(
        dict(room.made_by), [(one.name, one.made_by()) for one in own], room.device, threads,
        settings.model_dump(include={"batches", "repeats"}),
    )  # fmt: skip
    earlier = recall(folder / TIMES, Times, made_from=made_from)
    if earlier is not None:
        return earlier
    room.progress.say("all networks are timed in turn")
    runners = [(one.name, one.runner(part, 0)) for one in own for part in one.parts()]
    timings: list[Timing] = []
    for batch in settings.batches:
        rows = _batch(inputs, batch, room.device)
        calls = {
            (name, spot.share): _call(runner, spot.setting, rows, room.device)
            for name, runner in runners
            for spot in runner.spots
        }
        for _, runner in runners:
            runner.network.to(room.device).eval()
            runner.prepare(runner.network, [spot.setting for spot in runner.spots])
        with torch.inference_mode():
            found = interleaved(calls, repeats=settings.repeats, seconds=settings.seconds)
        timings += [
            Timing(name=name, share=share, batch=batch, seconds=seconds)
            for (name, share), seconds in found.items()
        ]
    times = Times(timings=tuple(timings), device=room.device, threads=threads)
    remember(folder / TIMES, times, made_from=made_from)
    return times


def _call(runner: Runner, setting: Any, inputs: Any, device: str) -> Any:
    def ready() -> None:
        runner.choose(runner.network, setting)

    def call() -> None:
        runner.network(inputs)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return ready, call


def _batch(inputs: Mapping[str, torch.Tensor], batch: int, device: str) -> dict[str, torch.Tensor]:
    return {
        name: tensor[torch.arange(batch) % len(tensor)].to(device)
        for name, tensor in inputs.items()
    }
