"""``train-student``: a compact network learns the projected rows; the teacher's head goes with it.

The student g minimises ||g(x) - z||² (arXiv 2512.23410, equation 4) against the stored z = R h(x);
its logits are W g(x) + b with the head that was trained on z. It sees the inputs that the stored
rows were made of: the clean ones, or the very same augmented views. The way "sketch" keeps the
student's own width and a head of its own, and learns z beside them. The baselines are the same
network with the same initial weights, recipe and order of rows: learning from labels only, and
from the full head's logits.
"""

import re
from dataclasses import replace
from pathlib import Path

from distill.allocator import memory_kept
from distill.config import StudentConfig
from distill.datasets import Dataset
from distill.findings import Students
from distill.lessons import Lesson
from distill.progress import Progress
from distill.pupils import METHODS
from distill.rivals import RIVALS
from distill.schooling import open_school

BASELINES = ("labels", "logits")


@memory_kept()
def train_student(
    dataset: Dataset,
    lesson: Lesson,
    *,
    settings: StudentConfig,
    root: Path,
    workers: int,
    device: str,
    progress: Progress,
    overwrite: bool = False,
) -> Students:
    """Train the student of ``settings.way``, and with ``settings.baselines`` the two baselines.

    Each gets a folder of its name in ``root``: ``student.safetensors`` (network, head and card),
    ``predictions.safetensors`` (of test), checkpoints, metrics, and ``student.json`` (its record,
    written last). ``School.teach`` says what is kept and what is refused.
    """
    school = open_school(dataset, lesson, workers=workers, device=device, progress=progress)
    school = replace(school, methods={**RIVALS, **METHODS})  # whose "logits" are a baseline's
    methods = (settings.way, *(BASELINES if settings.baselines else ()))
    folders = {
        method: root / student_name(settings.name, lesson.target, method) for method in methods
    }
    return Students(
        students=tuple(
            school.teach(method, settings, folder, overwrite=overwrite)
            for method, folder in folders.items()
        )
    )


def student_name(network: str, target: str, method: str) -> str:
    """``resnet10t-gaussian-k128-s0``, that and ``-sketch``, or ``resnet10t-labels``."""
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", network.rpartition("/")[2]).strip("-.")
    native = {"subspace": target, "sketch": f"{target}-sketch"}
    return f"{short}-{native.get(method, method)}"
