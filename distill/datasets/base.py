"""What a data set is: splits of lazily read inputs with stable ids, labels and class names.

A *reader* opens one example of a source by its row; ``Inputs`` is a choice of a reader's rows as
a plain sequence, which a ``DataLoader`` worker can be sent cheaply. A *source* is what a format
module returns: everything it found, before anything is carved, limited or skipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64


@runtime_checkable
class Reader(Protocol):
    """Opens examples by row. Picklable. ``read`` raises ``BadInputError`` naming file and row."""

    def __len__(self) -> int: ...
    def read(self, row: int) -> Any:
        """Return a PIL RGB image, a ``str`` or a pair of them."""
        ...

    def where(self, row: int) -> str:
        """Name the file, and the row in it where a file holds several."""
        ...


@final
@dataclass(frozen=True, eq=False)
class Inputs(Sequence[Any]):
    """The chosen rows of a reader, opened when asked for."""

    reader: Reader
    rows: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "Inputs": ...
    def __getitem__(self, index: int | slice) -> Any:
        """One example opened, or a slice of them still closed."""
        if isinstance(index, slice):
            return Inputs(self.reader, self.rows[index])
        return self.reader.read(int(self.rows[index]))

    def where(self, index: int) -> str:
        """Name the file and row of one example."""
        return self.reader.where(int(self.rows[index]))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The examples of one split; entry *i* of all three belongs to the same example."""

    name: str
    ids: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"] | None  # index into the class names; None: unlabelled
    inputs: Inputs  # a sequence of PIL RGB images, strings or pairs of strings
    skipped: tuple[str, ...] = ()  # with skip_bad: what was left out, and why

    def __len__(self) -> int:
        return len(self.ids)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Examples with stable ids.

    ``fingerprint`` changes with the content, the choice of columns and the rows of each split
    (so with ``limit``, and with seed and shares where something was carved or drawn), and with
    nothing else: not with the machine, the path or the time.
    """

    name: str
    modality: str  # "image" or "text"
    classes: tuple[str, ...]  # () where nothing is labelled
    splits: Mapping[str, Split]  # train, validation, test, in this order
    fingerprint: str
    note: str = ""  # why nothing can be concluded from this data set; "" for most
    notes: tuple[str, ...] = ()  # what was decided while loading, for the user to see


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One official split of a source, whole and in the source's order."""

    reader: Reader
    labels: Int64[np.ndarray, " n"] | None  # -1 where missing; such rows are in ``bad`` too
    bad: Mapping[int, str] = field(default_factory=dict)  # row -> what is wrong with it


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """All that a format module found under a name."""

    modality: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]  # by the project's split names
    digest: str  # of the content and of the choice of columns
    slow_to_check: bool = False  # a bad input shows only when it is opened
    note: str = ""
    notes: tuple[str, ...] = ()
