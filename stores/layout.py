"""The files of a store, byte for byte: names, ``zarr.json`` documents and the manifest.

A store is a zarr v3 group. Its own ``zarr.json`` is the manifest: the spec, the checksum of every
chunk, and a seal over the whole document; it is written last. Every byte of every file is implied
by the spec and the rows, so two stores of the same rows are the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stores.errors import MissingStoreError, SpecError, StoreDamagedError, StoreError
from stores.spec import Column, StoreSpec

FORMAT = 1
ROOT_SUFFIX = ".zarr"  # a folder of this name holds the stores of the splits
GROUP_FILE = "zarr.json"
SCRATCH_SUFFIX = ".partial"
OURS = "feature_store"  # the attribute of the group that holds everything of ours
CRC_BYTES = 4
SECOND_AXIS = {"features": ("dim",), "logits": ("class",)}


@dataclass(frozen=True)
class Manifest:
    """What a group's ``zarr.json`` says.

    ``checksums`` is the CRC-32C of every chunk, in hex, by column and in order; it is empty until
    the store is complete. Other files need no entry: the spec implies their every byte.
    """

    spec: StoreSpec
    complete: bool
    checksums: Mapping[str, tuple[str, ...]]

    def to_bytes(self) -> bytes:
        """Write the document and seal it."""
        ours = {
            "format": FORMAT,
            "complete": self.complete,
            "spec": self.spec.to_json(),
            "checksums": self._plain_checksums(),
            "seal": "",
        }
        ours["seal"] = _sha256(dump(_group(ours)))
        return dump(_group(ours))

    def digest(self) -> str:
        """Identity of the finished content, whatever library versions made it."""
        plain = {"spec": self.spec.compared(), "checksums": self._plain_checksums()}
        return _sha256(dump(plain))

    def _plain_checksums(self) -> dict[str, list[str]]:
        return {name: list(checksums) for name, checksums in self.checksums.items()}


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the store at ``path``; its chunks are not looked at."""
    try:
        data = (path / GROUP_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingStoreError(f"there is no store at {path}") from None
    except IsADirectoryError:
        data = b""
    try:
        ours = _unseal(data)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreDamagedError(
            f"{path / GROUP_FILE} is damaged, or not a feature store's: repair the store and run "
            "the stage that makes it again"
        ) from None
    if ours["format"] != FORMAT:
        raise StoreError(
            f"the store at {path} has format {ours['format']}, this version reads {FORMAT}: "
            "use the version that made it, or make it anew"
        )
    return _parse(path, ours)


def array_document(column: Column, spec: StoreSpec) -> bytes:
    """Write the ``zarr.json`` of one array."""
    return dump(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [spec.rows, *column.per_row],
            "data_type": np.dtype(column.dtype).name,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [spec.chunk_rows, *column.per_row]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "crc32c"},
            ],
            "fill_value": column.fill if column.fill == -1 else "NaN",
            "dimension_names": ["row", *SECOND_AXIS.get(column.name, ())],
            "storage_transformers": [],
            "attributes": {OURS: _sha256(dump(spec.compared()))},
        }
    )


def root_document() -> bytes:
    """Write the ``zarr.json`` of the group that holds the splits."""
    return dump({"zarr_format": 3, "node_type": "group", "attributes": {}})


def array_file(column: Column) -> str:
    """Where an array's document lies, relative to the store."""
    return f"{column.name}/{GROUP_FILE}"


def chunk_file(column: Column, index: int) -> str:
    """Where a chunk lies, relative to the store: ``features/c.3.0``, ``ids/c.3``.

    Zarr's keys with a dot for separator: a slash would make a folder for every chunk.
    """
    return f"{column.name}/c.{index}" + ".0" * len(column.per_row)


def store_files(spec: StoreSpec) -> set[str]:
    """Every file of a finished store."""
    columns = spec.columns.values()
    chunks = {chunk_file(c, index) for c in columns for index in range(spec.chunks)}
    return chunks | {array_file(column) for column in columns} | {GROUP_FILE}


def dump(document: Mapping[str, Any]) -> bytes:
    """JSON in the one form in which equal documents are equal bytes."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")


def _group(ours: dict[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": {OURS: ours}}


def _unseal(data: bytes) -> dict[str, Any]:
    """Our attribute of a group document; ``ValueError`` where any byte is not as it was sealed."""
    ours: dict[str, Any] = json.loads(data)["attributes"][OURS]
    if dump(_group(ours)) != data or ours["seal"] != _sha256(dump(_group(ours | {"seal": ""}))):
        raise ValueError("the seal is broken")
    return ours


def _parse(path: Path, ours: dict[str, Any]) -> Manifest:
    try:
        spec = StoreSpec(**(ours["spec"] | {"classes": tuple(ours["spec"]["classes"])}))
    except (TypeError, SpecError) as error:  # sealed, so not damage: someone else's writing
        raise StoreError(f"{path / GROUP_FILE} holds no readable spec: {error}") from error
    checksums = {name: tuple(found) for name, found in ours["checksums"].items()}
    implied = dict.fromkeys(spec.columns, spec.chunks) if ours["complete"] else {}
    if {name: len(found) for name, found in checksums.items()} != implied:
        raise StoreError(f"{path / GROUP_FILE} lists other chunks than its spec implies")
    return Manifest(spec, ours["complete"], checksums)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
