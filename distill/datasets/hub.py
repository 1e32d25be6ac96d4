"""Data sets of the Hugging Face hub, by name; offline, those that are in the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distill.config import DataConfig
from distill.datasets.base import Source
from distill.datasets.errors import DataError, some
from distill.datasets.files import quiet_datasets, reading
from distill.datasets.roles import chosen_roles
from distill.datasets.tables import table_source

PATIENCE = 5.0  # seconds


def load_hub(place: str, config: DataConfig) -> Source:
    """``name`` or ``org/name``, optionally ``:config``. The revision is part of the digest."""
    name, _, subset = place.partition(":")
    if not name:
        raise DataError("no hub data set is named; the form is hub:org/name or hub:org/name:config")
    builder = _prepared(name, subset)
    splits = {str(split): info for split, info in (builder.info.splits or {}).items()}
    where = f"hub data set {place}"
    roles = chosen_roles(list(splits), config, where)
    tables = {}
    with quiet_datasets(), reading(where, "a data set"):
        for role, names in roles.items():
            if names:
                tables[role] = [builder.as_dataset(split=split) for split in names]
    files = {role: [f"{place} {split}" for split in roles[role]] for role in tables}
    content = f"hub {name} {builder.config.name} {builder.hash} {files!r}"
    return table_source(tables, files, config, where=where, content=content)


@contextmanager
def _no_vain_retries() -> Iterator[None]:
    """Work offline where the hub does not answer: its client would retry for half a minute."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    try:
        if not any(before) and not _hub_answers():
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)  # through a proxy, if one is set
    except Exception:  # requests' or httpx's, by the client's version
        return False
    return True


def _prepared(name: str, subset: str) -> Any:
    """Return the builder with its Arrow files in the cache, downloaded if need be and possible."""
    import datasets

    where = f"hub data set {name}"
    try:
        with quiet_datasets(), _no_vain_retries():
            builder = datasets.load_dataset_builder(name, subset or None)
            builder.download_and_prepare()
            return builder
    except (ConnectionError, FileNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
        raise DataError(
            f"{where} is neither on the hub as far as can be seen nor in the local cache "
            "(offline, or no such name); give files instead: parquet:PATH, csv:PATH, json:PATH or "
            "imagefolder:DIR, or fetch it once while online"
        ) from error
    except ValueError as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        configs = [line.strip("- ") for line in reason[1:]]
        raise DataError(
            f"{where} cannot be loaded{f' as {subset!r}' if subset else ''}: {reason[0]} "
            f"{some(configs)}".rstrip()
        ) from error
