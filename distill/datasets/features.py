"""Feature rows in files of others: npy, npz, safetensors and parquet, read block by block."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from distill.datasets.columns import LABEL_NAMES
from distill.datasets.errors import DataError, damage, some
from distill.errors import nearest

NAMES = ("features", "embeddings", "embedding", "x", "arr_0")  # arrays that are the features
ID_NAMES = ("id", "ids", "idx", "index")
Stream = io.BufferedIOBase | IO[bytes]  # a file, or an archive's member
FORMS = ".npy, .npz, .safetensors or .parquet"


@runtime_checkable
class FeatureRows(Protocol):
    """A (rows, dim) table of numbers in a file, read from its start to its end."""

    @property
    def rows(self) -> int:
        """How many."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        ...

    def blocks(self, size: int) -> Iterator[Float[np.ndarray, "_ dim"]]:
        """Blocks of ``size`` rows (the last may be shorter) in float16, float32 or float64."""
        ...


def open_rows(path: Path, *, key: str = "", not_features: Sequence[str] = ()) -> FeatureRows:
    """Open the features in a file; ``key`` names the array, tensor or column among several.

    ``not_features`` are parquet columns that hold something else (labels, ids). ``DataError``
    for what is missing, of another kind, not two-dimensional, or ambiguous.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is not there"
        raise DataError(f"{path} {what}; features come from a file {FORMS}")
    suffix = path.suffix.lower()
    if suffix not in OPENERS:
        raise DataError(f"{path}: features are read from {FORMS}, not from {suffix or 'this'}")
    with readable(path):
        return OPENERS[suffix](path, key, not_features)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the readers say of a damaged file into one line that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = damage(error)
        if not reason:
            raise
        raise DataError(
            f"{path} is damaged or not a {path.suffix.lower()} file: {reason}"
        ) from error


def choose(path: Path, key: str, found: dict[str, Any], customary: Sequence[str], what: str) -> str:
    """Choose one of several named arrays: the named one, the only one, or a customary name."""
    if key:
        if key not in found:
            raise DataError(f"{path} has no {key!r}; it has {some(found)}{nearest(key, found)}")
        return key
    named = [name for word in customary for name in found if name.lower() == word]
    if len(found) == 1 or named:
        return (named or list(found))[0]
    if not found:
        raise DataError(f"{path} holds no {what}")
    raise DataError(f"{path} holds several arrays: {some(found)}; name the {what} with --key")


@final
@dataclass(frozen=True, kw_only=True)
class NpyRows:
    """A .npy file, or one array of an .npz archive, compressed or not."""

    path: Path
    member: str  # of the archive; "" for a .npy file
    rows: int
    dim: int
    dtype: np.dtype
    by_columns: bool  # Fortran order: cannot be read row by row, so it is read whole

    def blocks(self, size: int) -> Iterator[Float[np.ndarray, "_ dim"]]:
        """Read on from the header; a file that ends early or is damaged is an error."""
        with readable(self.path), _stream(self.path, self.member) as stream:
            if self.by_columns:
                whole = np.lib.format.read_array(stream, allow_pickle=False)
                yield from (_float(whole[at : at + size]) for at in range(0, self.rows, size))
                return
            _header(stream)
            for start in range(0, self.rows, size):
                count = min(size, self.rows - start)
                data = stream.read(count * self.dim * self.dtype.itemsize)
                if len(data) < count * self.dim * self.dtype.itemsize:
                    raise DataError(f"{self.path} is cut off in or after row {start}")
                yield _float(np.frombuffer(data, self.dtype).reshape(count, self.dim))


def _open_npy(path: Path, key: str, _: Sequence[str]) -> NpyRows:
    if key:
        raise DataError(f"{path} holds one array: --key does not apply")
    return _npy_rows(path, "")


def _open_npz(path: Path, key: str, _: Sequence[str]) -> NpyRows:
    shapes = npz_shapes(path)
    tables = {name: shape for name, shape in shapes.items() if len(shape) == 2 or name == key}
    return _npy_rows(path, choose(path, key, tables or dict(shapes), NAMES, "features"))


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every array in an archive, from the headers alone."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as stream:
                shapes[name.removesuffix(".npy")] = _header(stream)[0]
    return shapes


def _npy_rows(path: Path, member: str) -> NpyRows:
    with _stream(path, member) as stream:
        shape, by_columns, dtype = _header(stream)
    where = f"{path}[{member!r}]" if member else str(path)
    if dtype.hasobject:
        raise DataError(f"{where} holds pickled Python objects; save it as plain numbers")
    rows, dim = _table_shape(where, shape)
    _numbers(where, dtype)
    return NpyRows(path=path, member=member, rows=rows, dim=dim, dtype=dtype, by_columns=by_columns)


def _stream(path: Path, member: str) -> Stream:
    """Open the bytes of one array; the archive closes with them."""
    if not member:
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:  # an open member keeps the file open
        return archive.open(f"{member}.npy")


def _header(stream: Stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


@final
@dataclass(frozen=True, kw_only=True)
class TensorRows:
    """One tensor of a safetensors file."""

    path: Path
    key: str
    rows: int
    dim: int
    bfloat16: bool  # NumPy has none: torch widens it

    def blocks(self, size: int) -> Iterator[Float[np.ndarray, "_ dim"]]:
        """Slices of the memory-mapped tensor."""
        from safetensors import safe_open

        framework = "pt" if self.bfloat16 else "numpy"
        with safe_open(self.path, framework=framework) as file:
            tensor = file.get_slice(self.key)
            for start in range(0, self.rows, size):
                block = tensor[start : min(start + size, self.rows)]
                yield _float(block.float().numpy() if self.bfloat16 else block)


def _open_safetensors(path: Path, key: str, _: Sequence[str]) -> TensorRows:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            tables = {name: shape for name, shape in shapes.items() if len(shape) == 2}
            name = choose(path, key, shapes if key else tables, NAMES, "features")
            kind = file.get_slice(name).get_dtype()
    except SafetensorError as error:
        raise DataError(f"{path} is damaged or not a safetensors file: {error}") from error
    where = f"{path}[{name!r}]"
    rows, dim = _table_shape(where, shapes[name])
    if kind not in ("F16", "F32", "F64", "BF16", "I8", "U8", "I16", "I32"):
        raise DataError(f"{where} holds {kind}, not numbers that can be features")
    return TensorRows(path=path, key=name, rows=rows, dim=dim, bfloat16=kind == "BF16")


@final
@dataclass(frozen=True, kw_only=True)
class ParquetRows:
    """One list column of a parquet file, or one number column a dimension."""

    path: Path
    columns: tuple[str, ...]
    rows: int
    dim: int
    lists: bool

    def blocks(self, size: int) -> Iterator[Float[np.ndarray, "_ dim"]]:
        """Batches, read page by page."""
        start = 0
        with readable(self.path), _parquet_file(self.path) as file:
            for batch in file.iter_batches(size, columns=list(self.columns), use_threads=False):
                yield self._from_lists(batch, start) if self.lists else self._from_numbers(batch)
                start += batch.num_rows

    def _from_numbers(self, batch: Any) -> Float[np.ndarray, "_ dim"]:
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in self.columns]
        return _float(np.stack(columns, axis=1))  # a missing number is NaN here

    def _from_lists(self, batch: Any, start: int) -> Float[np.ndarray, "_ dim"]:
        import pyarrow.compute as pc

        column = batch.column(0)
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        wrong = np.flatnonzero(lengths != self.dim)
        if len(wrong):
            raise DataError(
                f"{self.path}: column {self.columns[0]!r} holds {lengths[wrong[0]]} numbers at row "
                f"{start + wrong[0]} and {self.dim} at row 0; every row needs the same"
            )
        values = column.flatten().to_numpy(zero_copy_only=False)
        return _float(values.reshape(len(lengths), self.dim))


def _parquet_file(path: Path) -> Any:
    """Open for reading page by page: a file may be a single row group of any size."""
    from pyarrow import parquet

    return parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


def _open_parquet(path: Path, key: str, not_features: Sequence[str]) -> ParquetRows:
    from pyarrow import types

    with _parquet_file(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        reserved = {name for name in schema.names if name.lower() in (*LABEL_NAMES, *ID_NAMES)}
        reserved |= set(not_features)
        found = {field.name: field.type for field in schema}
        lists = {name: kind for name, kind in found.items() if _is_list(kind)}
        plain = [
            name
            for name, kind in found.items()
            if (types.is_floating(kind) or types.is_integer(kind)) and name not in reserved
        ]
        if rows and (key or lists):
            name = choose(path, key, found if key else lists, NAMES, "features")
            if name not in lists:
                raise DataError(f"{path}: column {name!r} holds {found[name]}, not lists")
            first = next(file.iter_batches(1, columns=[name])).column(0)[0].as_py()
            rows, dim = _table_shape(f"{path}: column {name!r}", (rows, len(first or ())))
            return ParquetRows(path=path, columns=(name,), rows=rows, dim=dim, lists=True)
    rows, dim = _table_shape(
        f"{path} (no list column, number columns {some(plain)})", (rows, len(plain))
    )
    return ParquetRows(path=path, columns=tuple(plain), rows=rows, dim=dim, lists=False)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(listed) and bool(
        types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
    )


def _table_shape(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise DataError(f"{where} has shape {shape}; features need (rows, dim)")
    if 0 in shape:
        raise DataError(f"{where} has shape {shape}: there is nothing in it")
    return shape[0], shape[1]


def _numbers(where: str, dtype: np.dtype) -> None:
    if dtype.kind not in "fiu":
        raise DataError(f"{where} holds {dtype}, not numbers that can be features")


def _float(block: Shaped[np.ndarray, "_ dim"]) -> Float[np.ndarray, "_ dim"]:
    """Integers become float32; decimals keep their width, in the machine's byte order."""
    wanted = block.dtype.newbyteorder("=") if block.dtype.kind == "f" else np.dtype(np.float32)
    return block.astype(wanted, copy=False)


OPENERS: dict[str, Callable[[Path, str, Sequence[str]], FeatureRows]] = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".safetensors": _open_safetensors,
    ".parquet": _open_parquet,
}
