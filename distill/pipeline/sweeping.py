"""``sweep``: how far the features of a run can be compressed, and the factor that follows."""

from pathlib import Path
from typing import Unpack

from distill.findings import Recommended, Sweep
from distill.options import SweepOptions, overrides
from distill.pipeline.building import command, feature_stores
from distill.pipeline.opening import Opened, UserError, opened_for_writing
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN, recall


def sweep(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[SweepOptions],
) -> Sweep:
    """Try kinds of map at several factors; recommend one and certify it on the test rows.

    Choices are made by cross-validation on train and validation, then the test rows are scored
    once. Killed or interrupted, the same call goes on; finished cells are kept.
    """
    with opened_for_writing(run, config, overrides(options)) as opened:
        return sweep_all(opened, progress=progress)


def sweep_all(opened: Opened, *, progress: Progress) -> Sweep:
    """The sweep on an opened run, and its three files."""
    from distill.reporting import write_sweep
    from distill.stages.sweep import sweep as stage

    run, config = opened.run, opened.config
    found = stage(
        feature_stores(run),
        folder=run.sweeps,
        moments=run.moments,
        settings=config.sweep,
        head=config.head,
        progress=progress,
    )
    found.save(run.swept)
    write_sweep(found, run.folder, title=config.title)
    return found


def finished_sweep(opened: Opened, progress: Progress) -> Sweep | None:
    """The run's sweep; None where there is none, or one of other features, which is said."""
    run = opened.run
    found = recall(run.swept, Sweep)
    if found is None:
        return None
    digests = {name: store.digest for name, store in feature_stores(run).items()}
    if any(digests.get(split) != digest for split, digest in found.stores.items()):
        progress.say(
            f"{run.swept} is of other features and is left out: run {command(run, 'sweep')} again"
        )
        return None
    return found


def automatic(opened: Opened, kind: str | None, *, progress: Progress) -> Recommended:
    """The recommendation of the finished sweep, or of one that is made now.

    ``kind`` asks for that family's, which is swept if it was not; else it is the best of all.
    ``UserError`` where only the full width holds.
    """
    from projections import kind_of

    if kind is not None:
        kind_of(kind)  # a wrong name is refused before any work
        if kind not in opened.config.sweep.kinds:
            kinds = (*opened.config.sweep.kinds, kind)
            swept = opened.config.sweep.model_copy(update={"kinds": kinds})
            opened = Opened(opened.run, opened.config.model_copy(update={"sweep": swept}))
    found = finished_sweep(opened, progress)
    settings = opened.config.sweep
    if found is None or not _answers(found, opened, kind):
        found = sweep_all(opened, progress=progress)
    chosen = next(iter(_of(found, kind)), None)
    if chosen is None:
        raise UserError(f"{kind} maps were left out of the sweep: {'; '.join(found.notes)}")
    if chosen.dim_out >= found.dim:
        raise UserError(
            f"no factor of {kind or 'any map'} is recommended at a tolerance of "
            f"{settings.tolerance:g} ({chosen.why}); allow more with --tolerance, sweep with "
            "--shipped embedding if the k numbers are what is stored or sent, or name a --factor"
        )
    return chosen


def covers(found: Sweep, opened: Opened) -> bool:
    """Whether a sweep has every cell that the settings ask for, of the same heads and features."""
    from distill.stages.sweep import fingerprint_of, scope

    stores, config = feature_stores(opened.run), opened.config
    dims = scope(stores, config.sweep).dims
    wanted = {(kind, k) for kind, those in dims.items() for k in those}
    return (
        found.fingerprint == fingerprint_of(stores, config.sweep, config.head)
        and found.seeds >= config.sweep.seeds
        and {(one.kind, one.dim_out) for one in found.maps} >= wanted
    )


def _answers(found: Sweep, opened: Opened, kind: str | None) -> bool:
    """Whether a sweep's recommendation is the one that the settings ask for."""
    settings = opened.config.sweep
    if (found.tolerance, found.shipped) != (settings.tolerance, settings.shipped):
        return False
    if kind is None and not {one.kind for one in found.maps} <= set(settings.kinds):
        return False  # the best of all is one of those that are named
    return covers(found, opened) and bool(_of(found, kind))


def _of(found: Sweep, kind: str | None) -> list[Recommended]:
    """The recommendation of a kind, or the best; none where the kind was not swept."""
    if kind is None:
        return [found.best]
    return [one for one in found.families if one.kind == kind]
