"""The maps of a run: drawn from a seed, or computed from its train features and then kept.

``projected/<name>.map/`` holds a computed map and, written last, what it was computed from: the
same map goes on with a store that was begun, whatever computed its last bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config import ProjectConfig, fingerprint
from distill.findings import Record
from distill.machine import half_of_free
from distill.pipeline.building import command
from distill.pipeline.opening import Opened, UserError
from distill.runs import Run, recall, remember

if TYPE_CHECKING:
    from distill.sweeping.maps import Part
    from projections import Projection
    from stores import FeatureStore

MAP, MADE = "map.safetensors", "made.json"  # the second, written last, says from what


@dataclass(frozen=True, kw_only=True)
class MapMade(Record):
    """A computed map lies beside this."""

    digest: str


def map_name(kind: str, dim_out: int, seed: int) -> str:
    """How the store of a map is called: a map without a seed of its own is of seed 0."""
    from distill.sweeping.maps import is_seeded

    return f"{kind}-k{dim_out}-s{seed if is_seeded(kind) else 0}"


def store_name(settings: ProjectConfig, dim_out: int, seed: int, *, kind: str = "") -> str:
    """How the store of mapped rows is called: that of its map, with the type if it is float16."""
    name = map_name(kind or settings.kind, dim_out, seed)
    return name if settings.dtype == "float32" else f"{name}-{settings.dtype}"


def begins_with_head(kind: str) -> bool:
    """Whether maps of this kind are computed from the trained full head."""
    from distill.sweeping.maps import TRUNCATED

    return kind in TRUNCATED


def maps_for(
    opened: Opened, train: "FeatureStore", kind: str, dims: Sequence[int], seed: int
) -> "list[Projection]":
    """One map of this kind and seed for each width, from disk where it was computed before."""
    from distill.sweeping.maps import SUPERVISED, needs_data
    from projections import load_projection, make_projection, save_projection

    dim = train.spec.dim
    if kind in SUPERVISED and not train.spec.labelled:
        raise UserError(
            f"a {kind} map tells classes apart, and {opened.run.features} has no labels; use pca, "
            "or a kind that is drawn from a seed"
        )
    if not needs_data(kind):
        return [make_projection(kind, dim_in=dim, dim_out=k, seed=seed) for k in dims]
    made_from = _origin(opened, train, kind, seed)
    folders = {k: opened.run.map_folder(map_name(kind, k, seed)) for k in dims}
    kept = {k: _kept(folder, made_from) for k, folder in folders.items()}
    found = {k: projection for k, projection in kept.items() if projection is not None}
    missing = [k for k in dims if k not in found]
    for projection in _computed(opened, train, kind, missing, max(dims), seed) if missing else ():
        folder = folders[projection.dim_out]
        _check_stores(opened.run, folder.stem, projection)
        save_projection(folder / MAP, projection)
        digest = str(projection.describe()["digest"])
        remember(folder / MADE, MapMade(digest=digest), made_from=made_from)
        found[projection.dim_out] = load_projection(folder / MAP)  # as the next call will find it
    return [found[k] for k in dims]


def kept_digest(
    opened: Opened, train: "FeatureStore", kind: str, dim_out: int, seed: int
) -> str | None:
    """The digest of a map that was computed, "" for one that is drawn; None where it is not there.

    Nothing is computed. It is not there where it was computed from something else, too.
    """
    from distill.sweeping.maps import needs_data

    if not needs_data(kind):
        return ""
    folder = opened.run.map_folder(map_name(kind, dim_out, seed))
    if not (folder / MADE).is_file():
        return None
    kept = _kept(folder, _origin(opened, train, kind, seed))
    return None if kept is None else str(kept.describe()["digest"])


def _kept(folder: Path, made_from: str) -> "Projection | None":
    """The map that lies in a folder; None where it is of something else or cannot be read."""
    from projections import ProjectionError, load_projection

    made = recall(folder / MADE, MapMade, made_from=made_from)
    if made is None:
        return None
    try:
        projection = load_projection(folder / MAP)
    except ProjectionError:  # lost or damaged: it is computed again
        return None
    return projection if projection.describe().get("digest") == made.digest else None


def _check_stores(run: Run, name: str, projection: "Projection") -> None:
    """``UserError`` where finished rows of another map have this name: theirs stays beside them."""
    from stores import StoreError, open_splits

    digest = projection.describe()["digest"]
    for path in (run.projected(name), run.projected(f"{name}-float16")):
        if not path.is_dir():
            continue
        try:
            made = [
                store.spec.made_by.get("projection", {}) for store in open_splits(path).values()
            ]
        except StoreError:  # begun only: whoever goes on with it will see
            continue
        if any(one.get("digest") != digest for one in made):
            raise UserError(
                f"{path} was made by another {projection.kind} map, of other features, settings or "
                "another full head; delete it to make it anew"
            )


def _origin(opened: Opened, train: "FeatureStore", kind: str, seed: int) -> str:
    """What a computed map depends on."""
    from distill.sweeping.maps import LEARNED, TRUNCATED

    learned = [opened.config.head.l2, opened.config.head.max_iterations, seed]
    head = sha256(_full_head_file(opened.run).read_bytes()).hexdigest() if kind in TRUNCATED else ""
    return fingerprint(kind, train.digest, head, learned if kind == LEARNED else [])


def _computed(
    opened: Opened, train: "FeatureStore", kind: str, dims: Sequence[int], widest: int, seed: int
) -> "tuple[Projection, ...]":
    """Compute as far as to ``widest``: a map that was lost is the one that it was, to the bit."""
    from distill.sweeping.maps import maps_of, middle

    settings = opened.config.head
    return maps_of(
        kind,
        dims,
        _part(opened, train, kind),
        widest=widest,
        seed=seed,
        l2=middle(settings.l2),
        max_iterations=settings.max_iterations,
    )


def _part(opened: Opened, train: "FeatureStore", kind: str) -> "Part":
    """The train rows, their moments, and the full head where the kind begins with one."""
    import numpy as np

    from distill.sweeping.maps import TRUNCATED, Part
    from distill.sweeping.moments import train_moments
    from distill.sweeping.rows import Rows
    from students import load_head

    run, spec = opened.run, train.spec
    rows = Rows([train], opened.config.sweep.memory_limit or half_of_free())
    labels = train.labels() if spec.labelled else np.zeros(spec.rows, np.int64)
    classes = len(spec.classes) or 1 + int(labels.max())
    weight, bias = np.zeros((classes, spec.dim), np.float32), np.zeros(classes, np.float32)
    if kind in TRUNCATED:
        head, meta = load_head(_full_head_file(run), dim=spec.dim, classes=spec.classes)
        if meta.get("made_from", {}).get("stores", {}).get("train") != train.digest:
            raise UserError(
                f"the full head of {run.folder} was trained on other features: run "
                f"{command(run, 'train-head')} again"
            )
        weight, bias = head.weight, head.bias
    return Part(
        moments=train_moments(rows, labels, classes=classes, folder=run.moments),
        weight=weight,
        bias=bias,
        rows=rows,
        labels=labels,
        chosen=np.arange(spec.rows),
    )


def _full_head_file(run: Run) -> Path:
    path = run.heads / "full" / "head.safetensors"
    if not path.is_file():
        raise UserError(
            f"this kind of map begins with the trained full head, and {run.folder} has none yet: "
            f"run {command(run, 'train-head')} first"
        )
    return path
