"""First factors of the layers of a network: the paper's, or those its calibration batches ask for.

Layers are plain, as ``students.nested.kinds`` takes them, and come one after the other, so that who
reads them may tell how far it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor, nn

from students.nested.calibration import Moment, second_moments
from students.nested.initial import (
    row_space,
    shrink,
    shrink_counts,
    svd_factors,
    whitened_factors,
)
from students.nested.kinds import matrix_of

MOST_BYTES = 1 << 31  # of moments at a time: more take further passes over the batches


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """``up`` @ ``down`` in the layout of the layer's matrix, and what they were found from.

    ``rows`` inputs, none for the paper's start, whose second moment was ``shrunk`` so far.
    """

    up: Float[Tensor, "rows rank"]
    down: Float[Tensor, "rank columns"]
    rows: int = 0
    shrunk: float = 0.0


def svd_starts(
    layers: Mapping[str, nn.Module], ranks: Mapping[str, int]
) -> Iterator[tuple[str, Start]]:
    """The paper's start of each layer, by its name."""
    for name, layer in layers.items():
        factors = svd_factors(matrix_of(layer), ranks[name])
        yield name, Start(up=factors.up, down=factors.down)


def whitened_starts(
    network: nn.Module,
    layers: Mapping[str, nn.Module],
    ranks: Mapping[str, int],
    calibration: Sequence[Any],
) -> Iterator[tuple[str, Start]]:
    """The start of each layer that errs least on what it reads when the network runs on batches.

    One pass for as many layers as have moments of ``MOST_BYTES`` together. ``CalibrationError`` as
    ``second_moments``. The network must stay as it is until the last start is there.
    """
    for group in _groups(layers):
        narrowing = (name for name in group if _narrows(layers[name]))
        spaces = {name: row_space(matrix_of(layers[name])) for name in narrowing}
        moments = second_moments(network, group, calibration, through=spaces)
        for name in group:
            space = spaces.pop(name, None)
            yield name, _whitened(layers[name], ranks[name], moments.pop(name), space)


def _whitened(layer: nn.Module, rank: int, moment: Moment, space: Tensor | None) -> Start:
    matrix = matrix_of(layer)
    if isinstance(layer, nn.Embedding):
        covariance, shrunk = shrink_counts(moment.sums)
        # a table is the transpose of the matrix that one-hot rows are multiplied with
        found = whitened_factors(matrix.T, covariance, rank)
        up, down = found.down.T.contiguous(), found.up.T.contiguous()
        return Start(up=up, down=down, rows=moment.rows, shrunk=shrunk)
    covariance, shrunk = shrink(moment.mean, moment.rows)
    if space is None:
        found = whitened_factors(matrix, covariance, rank)
        return Start(up=found.up, down=found.down, rows=moment.rows, shrunk=shrunk)
    found = whitened_factors(matrix.double() @ space, covariance, rank)
    up, down = found.up.to(matrix.dtype), (found.down @ space.T).to(matrix.dtype)
    return Start(up=up, down=down, rows=moment.rows, shrunk=shrunk)


def _narrows(layer: nn.Module) -> bool:
    """Whether the layer reads fewer directions than it has inputs."""
    rows, columns = matrix_of(layer).shape
    return rows < columns and not isinstance(layer, nn.Embedding)


def _groups(layers: Mapping[str, nn.Module]) -> list[list[str]]:
    """Layers whose moments may be held together, in their order; one that is too large alone."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, layer in layers.items():
        needed = 8 * _numbers(layer)
        if groups[-1] and held + needed > MOST_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += needed
    return groups


def _numbers(layer: nn.Module) -> int:
    """How many numbers the moment has, with the directions that it is of."""
    rows, columns = matrix_of(layer).shape
    if isinstance(layer, nn.Embedding):
        return rows
    return rows**2 + rows * columns if rows < columns else columns**2
