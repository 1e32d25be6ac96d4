"""The table of formats, and the one way from a config's data section to a data set."""

from collections.abc import Callable
from pathlib import Path

from distill.config import DataConfig
from distill.datasets.base import Dataset, Source
from distill.datasets.digits import load_digits
from distill.datasets.errors import DataError, UnknownDatasetError
from distill.datasets.files import TABLES, load_csv, load_json, load_parquet
from distill.datasets.folder import load_folder
from distill.datasets.hub import load_hub
from distill.datasets.pool import assemble_pool
from distill.datasets.splits import assemble
from distill.errors import nearest
from distill.progress import Progress, Silent

FORMATS: dict[str, Callable[[str, DataConfig], Source]] = {
    "digits": load_digits,
    "imagefolder": load_folder,
    "parquet": load_parquet,
    "csv": load_csv,
    "json": load_json,
    "jsonl": load_json,
    "hub": load_hub,
}
FORMS = "digits, imagefolder:DIR, parquet:PATH, csv:PATH, json:PATH, hub:NAME"
FEATURE_SUFFIXES = (".npy", ".npz", ".safetensors")


def load_dataset(config: DataConfig, *, progress: Progress | None = None) -> Dataset:
    """Load what ``config.name`` names: ``digits``, ``format:place`` or a hub name.

    ``DataError`` says in one line what is wrong, where, and what to do. Inputs are opened when
    read; only with ``skip_bad`` is every chosen image opened here, once.
    """
    return assemble(config.name, _found(config), config, progress or Silent())


def load_pool(
    name: str, config: DataConfig, own: Dataset, *, progress: Progress | None = None
) -> Dataset:
    """Load the training rows of other data, all of them and without labels, as a pool.

    They are a data set of one split ``train``. What is among the examples of ``own``, the data
    set that ``config`` names, is left out: nothing of its validation or test split may be learned
    from. Columns and splits are looked for as in ``config`` and then by themselves. ``DataError``
    where nothing is left, or as for ``load_dataset``.
    """
    settings = config.model_copy(update={"name": name, "labelled": False})
    try:
        source = _found(settings)
    except DataError:
        settings = DataConfig(name=name, labelled=False, skip_bad=config.skip_bad)
        source = _found(settings)
    # a limit must not hand over what was carved out for validation and test
    whole = load_dataset(config.model_copy(update={"limit": 0})) if config.limit else own
    held_out = [data.splits[role] for data in (own, whole) for role in ("validation", "test")]
    taken = [own.splits["train"], *held_out]
    return assemble_pool(name, source, settings, taken, progress or Silent())


def _found(config: DataConfig) -> Source:
    """All that the name stands for."""
    kind, _, place = config.name.partition(":")
    if kind in FORMATS:
        return FORMATS[kind](place, config)
    if kind.count("/") == 1 and not Path(config.name).exists() and kind[0] not in "./~":
        return load_hub(config.name, config)
    raise UnknownDatasetError(_unknown(config.name, kind))


def _unknown(name: str, kind: str) -> str:
    """Give a path without its format its format, a slip of the pen the nearest name."""
    path = Path(name).expanduser()
    if path.suffix.lower() in FEATURE_SUFFIXES:
        return f"{name!r} holds numbers, not inputs; features come in with: distill import {name}"
    form = TABLES.get(path.suffix.lower())
    if path.is_dir():
        tables = sorted({TABLES.get(file.suffix.lower(), "") for file in path.iterdir()})
        form = next(filter(None, tables), "imagefolder")
    if form:
        return f"{name!r} is a path without its format; say {form}:{name}"
    return f"no data set named {name!r}{nearest(kind, FORMATS) or f'; known: {FORMS}'}"
