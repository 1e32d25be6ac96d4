"""``project`` and ``validate``: fewer dimensions, and what that did to distances."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Unpack

from distill.config import fingerprint
from distill.findings import Projected, Projections, Validation
from distill.options import AUTO, PROJECT, ProjectOptions, ValidateOptions, overrides, several
from distill.pipeline.building import feature_stores, projected_as_made
from distill.pipeline.learning import fit_heads
from distill.pipeline.mapping import begins_with_head, kept_digest, maps_for, store_name
from distill.pipeline.opening import Opened, UserError, opened_for_writing, peek, told
from distill.pipeline.sweeping import automatic
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN, recall, remember

if TYPE_CHECKING:
    from distill.stages.project import Target
    from stores import FeatureStore


def project(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    validate: bool = True,
    progress: Progress = SILENT,
    **options: Unpack[ProjectOptions],
) -> Projections:
    """Map the features to dim / factor dimensions, all factors in one pass, and validate them.

    The factor ``auto`` is the one that the sweep recommends, made first where there is none.
    Stores that are finished are left as they are; killed, the same call goes on.
    """
    asked = overrides({**options, "factor": None}, PROJECT)
    given = options.get("factor")
    factors = None if given is None else [f for one in several(given) for f in several(one)]
    if factors and AUTO in factors:
        if len(factors) > 1:
            raise UserError(f"--factor {AUTO} stands alone; name no other factor beside it")
        with opened_for_writing(run, config, asked) as opened:
            chosen = automatic(opened, options.get("kind"), progress=progress)
            if begins_with_head(chosen.kind):
                fit_heads(opened, progress=progress)
        progress.say(
            f"factor {AUTO} is {chosen.factor:g}: {chosen.kind} at k = {chosen.dim_out}, "
            f"{chosen.why}"
        )
        asked |= {"project.factors": [chosen.factor], "project.kind": chosen.kind}
    else:
        asked |= overrides({"factor": factors}, PROJECT)
    with opened_for_writing(run, config, asked) as opened:
        return project_all(opened, progress=progress, check=validate)


def validate(
    run: Path | str = DEFAULT_RUN,
    reference: Path | str | None = None,
    candidate: Path | str | None = None,
    *,
    config: Path | str | None = None,
    split: str = "train",
    progress: Progress = SILENT,
    **options: Unpack[ValidateOptions],
) -> Validation:
    """Compare any two stores of the same examples: distances, neighbours, k-NN accuracy.

    ``reference`` is the run's features unless named; a store is a folder ``….zarr``, and
    ``candidate`` may also be the name of a projected store of the run.
    """
    with told():
        opened = peek(run, config, overrides(options))
        from distill.stages.validate import validate as stage

        first = _split_of(Path(reference) if reference else opened.run.features, split)
        if candidate is None:
            raise UserError("name the store to compare: a folder ….zarr or a projected store")
        second = _split_of(_candidate(opened, candidate), split)
        return stage(
            first, second, settings=opened.config.validation, split=split, progress=progress
        )


def _candidate(opened: Opened, named: Path | str) -> Path:
    """A projected store by its name, or any store by its path."""
    projected = opened.run.projected(str(named))
    if projected.is_dir() or Path(named).is_dir():
        return projected if projected.is_dir() else Path(named)
    there = ", ".join(sorted(path.stem for path in opened.run.projections.glob("*.zarr")))
    raise UserError(
        f"no store at {named}; name a folder ….zarr or a projected store of {opened.run.folder} "
        f"({there or 'there are none'})"
    )


def project_all(opened: Opened, *, progress: Progress, check: bool = True) -> Projections:
    """The projection stage on an opened run, and validation of what is not validated yet."""
    from distill.stages.project import project as stage

    run = opened.run
    start = perf_counter()
    sources = feature_stores(run)
    targets, notes = _targets(opened, sources)
    for note in notes:
        progress.say(note)
    rows = stage(sources, targets, progress=progress)
    found = tuple(_finding(opened, sources, target, check, progress) for target in targets)
    return Projections(
        projected=found, seconds=perf_counter() - start, rows_written=rows, notes=tuple(notes)
    )


def _targets(
    opened: Opened, sources: "dict[str, FeatureStore]"
) -> "tuple[list[Target], list[str]]":
    """One target for each different k and seed that the config asks for."""
    from distill.stages.project import Target, dim_for_factor
    from distill.sweeping.maps import needs_data

    settings = opened.config.project
    made = projected_as_made(sources)
    if needs_data(settings.kind) and "train" not in sources:
        raise UserError(
            f"a {settings.kind} map is computed from the train split, and {opened.run.features} "
            "has none; use a kind that is drawn from a seed"
        )
    train = sources.get("train") or next(iter(sources.values()))
    factors: dict[int, float] = {}
    notes = []
    for factor in settings.factors:
        k = dim_for_factor(train.spec.dim, factor)
        if k == train.spec.dim and made is not None and made.kind == settings.kind:
            notes.append(
                f"factor {factor:g} leaves the features as they are: the {made.kind} map of seed "
                f"{made.seed} took them from {made.dim_in} to {made.dim_out} dimensions as they "
                "were made"
            )
            continue
        if k in factors:
            notes.append(f"factor {factor:g} gives k = {k} again; it is made once")
        factors.setdefault(k, factor)
    targets: dict[str, Target] = {}
    for seed in settings.seeds if factors else ():
        names = {k: store_name(settings, k, seed) for k in factors}
        if set(names.values()) <= set(targets):
            notes.append(f"a {settings.kind} map has no seed; it is made once")
            continue
        for projection in maps_for(opened, train, settings.kind, list(factors), seed):
            k = projection.dim_out
            root = opened.run.projected(names[k])
            targets[names[k]] = Target(names[k], factors[k], projection, root, settings.dtype)
    return list(targets.values()), notes


def _finding(
    opened: Opened,
    sources: "dict[str, FeatureStore]",
    target: "Target",
    check: bool,
    progress: Progress,
) -> Projected:
    from distill.stages.validate import validate as stage
    from distill.sweeping.maps import needs_data
    from stores import open_splits

    run, settings = opened.run, opened.config.validation
    candidates = open_splits(target.root)
    path = run.projected_finding(target.name)
    earlier = _earlier(opened, sources, candidates, target.name, check)
    if earlier is not None:
        return earlier
    split = "train" if "train" in sources else next(iter(sources))
    validation = (
        stage(sources[split], candidates[split], settings=settings, split=split, progress=progress)
        if check
        else None
    )
    dim = sources[split].spec.dim
    projection = target.projection
    found = Projected(
        name=target.name,
        kind=projection.kind,
        dim_in=dim,
        dim_out=projection.dim_out,
        seed=projection.seed,
        factor_asked=target.factor_asked,
        factor=dim / projection.dim_out,
        rows=sum(store.spec.rows for store in candidates.values()),
        bytes=sum(file.stat().st_size for file in target.root.rglob("*") if file.is_file()),
        validation=validation,
        data_aware=needs_data(projection.kind),
    )
    remember(path, found, made_from=_made_from(opened, sources, candidates))
    return found


def is_projected(
    opened: Opened,
    sources: "dict[str, FeatureStore]",
    kind: str,
    dim_out: int,
    seed: int,
    *,
    check: bool,
) -> bool:
    """Whether ``project`` would find these features under this map, and leave them as they are."""
    from stores import StoreError, open_splits

    name = store_name(opened.config.project, dim_out, seed, kind=kind)
    try:
        candidates = open_splits(opened.run.projected(name))
    except StoreError:
        return False
    if _earlier(opened, sources, candidates, name, check) is None:
        return False
    train = sources.get("train") or next(iter(sources.values()))
    digest = kept_digest(opened, train, kind, dim_out, seed)
    made = (store.spec.made_by.get("projection", {}) for store in candidates.values())
    return digest == "" or {one.get("digest") for one in made} == {digest}


def _earlier(
    opened: Opened,
    sources: "dict[str, FeatureStore]",
    candidates: "dict[str, FeatureStore]",
    name: str,
    check: bool,
) -> Projected | None:
    """The finding of these very stores, validated where that is asked for."""
    path = opened.run.projected_finding(name)
    found = recall(path, Projected, made_from=_made_from(opened, sources, candidates))
    return None if found is None or (check and found.validation is None) else found


def _made_from(
    opened: Opened, sources: "dict[str, FeatureStore]", candidates: "dict[str, FeatureStore]"
) -> str:
    digests = [store.digest for store in (*sources.values(), *candidates.values())]
    return fingerprint(digests, opened.config.validation)


def _split_of(root: Path, split: str) -> "FeatureStore":
    from stores import open_splits

    if not root.is_dir():
        raise UserError(f"no store at {root}; name a folder ….zarr")
    splits = open_splits(root)
    if split not in splits:
        raise UserError(f"{root} has no split {split!r}; it has {', '.join(splits)}")
    return splits[split]
