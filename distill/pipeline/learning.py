"""``train-head`` and ``train-student``: classifiers on stored features."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from distill.findings import Heads, Projected, Students
from distill.options import STUDENT, HeadOptions, StudentOptions, overrides
from distill.pipeline.building import (
    command,
    feature_stores,
    needs_labels,
    projected_stores,
    the_dataset,
    the_device,
)
from distill.pipeline.opening import Opened, UserError, opened_for_writing
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN

if TYPE_CHECKING:
    from stores import FeatureStore


def train_head(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[HeadOptions],
) -> Heads:
    """Train a linear head on the full features and one on every projected store.

    Its l2 is chosen on validation; the test split is read once, for the final number.
    """
    with opened_for_writing(run, config, overrides(options)) as opened:
        return fit_heads(opened, progress=progress)


def train_student(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[StudentOptions],
) -> Students:
    """Train a compact network on the projected targets; the teacher-side head is carried over.

    With ``baselines`` the same network is also trained from labels only and by logit
    distillation. Killed or interrupted, the same call goes on from the last checkpoint.
    """
    with opened_for_writing(run, config, overrides(options, STUDENT)) as opened:
        return teach_students(opened, progress=progress, overwrite=overwrite)
