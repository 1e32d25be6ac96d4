"""Commands beside the main road: import, export, info, verify, predict, doctor."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from distill.config import fingerprint
from distill.findings import (
    DamageFound,
    Doctor,
    Exported,
    Extracted,
    Head,
    Info,
    Predictions,
    StoreInfo,
    Student,
    Taught,
    Verified,
)
from distill.options import ImportOptions, overrides, several
from distill.pipeline.building import the_device
from distill.pipeline.opening import UserError, opened_for_writing, peek, told
from distill.pipeline.pointing import nested_path, student_path
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN, Run, recall, remember

if TYPE_CHECKING:
    from distill.predictor import Predictor
    from stores import Damage


def info(
    path: Path | str | None = None,
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
) -> Info:
    """What a run folder or a store holds; without a path, the run."""
    with told():
        path = Path(run if path is None else path)
        opened = peek(path, config, {})
        found = opened.run
        if not path.is_dir():
            raise UserError(f"nothing at {path}; name a run folder or a store")
        stores = tuple(
            _store_info(root, split) for root in _stores_in(path) for split in _groups_in(root)
        )
        taught = recall(found.taught, Taught)
        if not stores and taught is None and not found.config.is_file():
            raise UserError(f"{path} is neither a run folder nor a store")
        heads = [recall(file, Head) for file in sorted(found.heads.glob("*/head.json"))]
        students = [recall(file, Student) for file in sorted(found.students.glob("*/student.json"))]
        return Info(
            path=str(path),
            title=opened.config.title if config or found.config.is_file() else "",
            teacher=taught.teacher if taught else "",
            stores=stores,
            heads=tuple(head for head in heads if head),
            students=tuple(student for student in students if student),
            report=str(path / "report.html") if (path / "report.html").is_file() else "",
            bytes=_bytes_in(path),
        )


def verify(
    path: Path | str | None = None,
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    progress: Progress = SILENT,
) -> Verified:
    """Check every byte of a store, or of every store of a run, against its manifest."""
    from stores import MissingStoreError, verify_splits

    with told():
        path = Path(run if path is None else path)
        peek(path, config, {})
        roots = _stores_in(path) if path.is_dir() else []
        if not roots:
            raise UserError(f"no store at {path}; name a run folder or a folder ….zarr")
        damages: list[DamageFound] = []
        unfinished: list[str] = []
        stores = files = 0
        with progress.task("verify", total=len(roots), unit="stores") as advance:
            for root in roots:
                try:
                    found = verify_splits(root)
                except MissingStoreError:  # its folder is there, and nothing in it yet
                    if root == path:
                        raise
                    unfinished.append(str(root))
                else:
                    damages += [_damage(root, damage) for damage in found.damages]
                    unfinished += map(str, found.unfinished)
                    stores += bool(found.stores)
                    files += found.files
                advance(1)
        return Verified(
            path=str(path),
            stores=stores,
            files=files,
            damages=tuple(damages),
            unfinished=tuple(unfinished),
        )


def import_features(
    features: Path | str,
    run: Path | str = DEFAULT_RUN,
    *,
    labels: Path | str | None = None,
    key: str = "",
    label_key: str = "",
    ids: Path | str | None = None,
    skip_bad: bool = False,
    config: Path | str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[ImportOptions],
) -> Extracted:
    """Bring your own embeddings (npy, npz, parquet, safetensors) as the features of a run.

    Validation and test splits are carved out, stratified, by the config's shares and seed.
    """
    from distill.stages.import_features import import_features as stage

    source = Path(features)
    asked = overrides({**options, "skip_bad": skip_bad or None})
    asked["data.name"] = f"import:{source.name}"
    with opened_for_writing(run, config, asked) as opened:
        found = stage(
            source,
            Path(labels) if labels else None,
            opened.run.features,
            key=key,
            label_key=label_key,
            ids=Path(ids) if ids else None,
            data=opened.config.data,
            dtype=opened.config.extract.dtype,
            progress=progress,
        )
        remember(opened.run.extracted, found, made_from=fingerprint(str(source.name)))
        return found


def predict(
    inputs: Sequence[str],
    run: Path | str = DEFAULT_RUN,
    *,
    student: str = "",
    budget: float | None = None,
    batch_size: int = 64,
    device: str | None = None,
    skip_bad: bool = False,
    text_columns: str = "",
    output: Path | str | None = None,
    overwrite: bool = False,
    config: Path | str | None = None,
    progress: Progress = SILENT,
) -> Predictions:
    """Classes from a trained student, for image files, folders of them, texts, or tables.

    An input for a student of texts is a line, a file of lines, or a CSV, JSON or parquet file of
    which ``text_columns`` may name the column. A nested network answers at the ``budget``, a share
    of dense FLOPs. ``output`` is a file to write the classes to as well: .csv, .json or .parquet.
    """
    from distill.answers import check_answers, write_answers
    from distill.stages.predict import predict as stage

    with told():
        asked = {
            "compute.device": device,
            "data.text_columns": several(text_columns) if text_columns else None,
        }
        opened = peek(run, config, asked)
        folder = nested_path(opened.run, student) or student_path(opened.run, student)
        if output is not None:
            check_answers(Path(output), overwrite=overwrite)
        found = stage(
            folder,
            list(inputs),
            batch_size=batch_size,
            device=the_device(opened.config),
            skip_bad=skip_bad,
            progress=progress,
            columns=opened.config.data,
            budget=budget,
        )
        if output is not None:
            write_answers(found.predictions, Path(output))
        return found


def load_predictor(
    path: Path | str, *, device: str = "auto", budget: float | None = None
) -> "Predictor":
    """A trained student for Python: images, strings or pairs in, classes out.

    ``path`` is a student's folder, one of ``save_pretrained``, an exported file ….onnx, or a name
    on the hub; or that of a nested network, which answers at a ``budget`` and whose
    ``student.network`` is for ``students.nested.set_budget``. ``predict(inputs)`` names classes and
    gives all probabilities, ``embed(inputs)`` the student's own numbers.
    """
    from distill.predictor import load_predictor as load
    from teachers import resolve_device

    with told():
        return load(path, device=resolve_device(device), budget=budget)


def doctor(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
) -> Doctor:
    """Preflight: versions, devices, memory, disk, cached weights; what is missing and the cure."""
    from distill.preflight import doctor as examine

    with told():
        opened = peek(run, config, {})
        return examine(opened.config, opened.run.folder)


def export_store(
    store: Path | str,
    to: Path | str,
    run: Path | str = DEFAULT_RUN,
    *,
    split: str = "train",
    overwrite: bool = False,
    config: Path | str | None = None,
    progress: Progress = SILENT,
) -> Exported:
    """One split of a store as .npy, .parquet, or a .faiss index; the ending of the name decides.

    ``store`` is a folder ….zarr, or the name of a store of the run: features, gaussian-k128-s0.
    """
    from distill.stages.export_store import export_store as stage
    from stores import open_splits

    with told():
        opened = peek(run, config, {})
        root = _named_store(opened.run, store)
        splits = open_splits(root)
        if split not in splits:
            raise UserError(f"{root} has no split {split!r}; it has {', '.join(splits)}")
        return stage(splits[split], Path(to), overwrite=overwrite, progress=progress)


def _named_store(run: Run, store: Path | str) -> Path:
    """The folder of a store given by its path, or by its name in the run."""
    path = Path(store)
    if (path / "features").is_dir():
        raise UserError(f"{path} is one split; name {path.parent} and --split {path.name}")
    if path.is_dir():
        return path
    inside = {"features": run.features} | {
        root.stem: root for root in sorted(run.projections.glob("*.zarr"))
    }
    known = [name for name, root in inside.items() if root.is_dir()]
    if str(store) in known:
        return inside[str(store)]
    there = f"; {run.folder} has {', '.join(known)}" if known else ""
    raise UserError(f"no store at {store}; name a folder ….zarr or a store of the run{there}")


def _stores_in(path: Path) -> list[Path]:
    """Roots of the stores at or under ``path``."""
    if (path / "zarr.json").is_file() or path.suffix == ".zarr":
        return [path]
    return sorted([*path.glob("*.zarr"), *path.glob("projected/*.zarr")])


def _groups_in(root: Path) -> list[Path]:
    """The splits of a store, in their usual order; a group given itself is itself."""
    if (root / "features").is_dir():
        return [root]
    usual = ("train", "validation", "test")
    groups = {folder.name: folder for folder in root.iterdir() if folder.is_dir()}
    known = [name for name in usual if name in groups]
    return [groups[name] for name in (*known, *sorted(set(groups) - set(usual)))]


def _store_info(root: Path, group: Path) -> StoreInfo:
    """One split; what is unfinished or damaged is said, not raised."""
    from stores import IncompleteStoreError, StoreError, open_store

    try:
        spec = open_store(group).spec
    except StoreError as error:
        state = "unfinished" if isinstance(error, IncompleteStoreError) else str(error)
        return StoreInfo(
            path=str(root), split=group.name, state=state, rows=0, dim=0, dtype="", logits=0,
            classes=0, views=0, bytes=_bytes_in(group),
        )  # fmt: skip
    return StoreInfo(
        path=str(root),
        split=group.name,
        state="complete",
        rows=spec.rows,
        dim=spec.dim,
        dtype=spec.dtype,
        logits=spec.logits,
        classes=len(spec.classes),
        views=spec.views,
        bytes=_bytes_in(group),
        made_by=dict(spec.made_by),
    )


def _bytes_in(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _damage(group: Path, damage: "Damage") -> DamageFound:
    return DamageFound(
        store=str(group),
        file=damage.file,
        reason=damage.reason,
        chunk=damage.chunk,
        rows=tuple(damage.rows or ()),
    )
