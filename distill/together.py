"""One command in several processes, as ``torchrun`` and ``accelerate launch`` start them.

The first process leads: it runs the command as if it were alone. The others wait until a network
learns. Each then runs the same command, finds what the leader has finished and left in the run
folder, comes to the same training by itself, takes its part in it, and waits again. They lock
nothing, write nothing and say nothing.

    torchrun --nproc-per-node 2 -m -- distill train-student --run runs/x
    accelerate launch --multi_gpu --num_processes 2 -m distill train-student --run runs/x

(Without the dashes torchrun takes ``--run`` for the beginning of an option of its own. Accelerate
starts several processes only where ``--multi_gpu`` is said, on a machine without GPUs too.)
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # quoted below: a command that runs alone does not load torch for this
    from students import World

Run = Callable[[list[str]], int]  # words of the command line -> exit code

_USER_ERROR = 2


def follows() -> bool:
    """Whether this process leaves the run folder to the one that leads."""
    return _processes() > 1 and int(os.environ.get("RANK") or 0) > 0


def run_together(run: Run, words: Sequence[str]) -> int:
    """Run a command in this process, whichever of how many it is; its exit code."""
    if _processes() == 1:
        return run(list(words))
    from students import StudentError, join_world

    try:
        world = join_world()
    except StudentError as error:
        print(f"distill: {error}", file=sys.stderr)
        return _USER_ERROR
    if world is None or world.leads:
        return _lead(world, run, words)
    return _follow(world, run, words)


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE") or 1)


def _lead(world: "World | None", run: Run, words: Sequence[str]) -> int:
    try:
        return run(list(words))
    finally:
        if world is not None:
            world.announce_end()


def _follow(world: "World", run: Run, words: Sequence[str]) -> int:
    from students import Released, following

    # the leader has thrown away what it does anew
    again = [*words[:1], "--quiet", *(word for word in words[1:] if word != "--overwrite")]
    while world.training_begins():
        try:
            with following():
                code = run(again)
        except Released:
            continue
        if code == 0:
            print(
                f"distill: process {world.rank} has nothing to train where process 0 trains; "
                "do all processes see the same files?",
                file=sys.stderr,
            )
        return code or 1
    return 0
