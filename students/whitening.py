"""Targets in other coordinates: z -> t and back, and how heads and finished students follow.

A squared error counts what varies most. ``standardise`` gives every number of z unit variance,
``whiten`` every direction. A student learns t; its head reads t with ``fold_head``, and
``fold_back`` puts the way back into its neck, so that what is shipped answers in z as ever.

Whitening is by the Cholesky factor Σ = L Lᵀ, t = L⁻¹ (z - mean): of all whitenings the one in which
the first p numbers of t are those of the first p of z, and back (Kessy et al., 2018,
doi:10.1080/00031305.2016.1277159), so that prefixes of a student stay prefixes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Float32, Float64
from torch import nn

from students.encoders import Encoder
from students.errors import StudentError

FLOOR = 1e-4  # of the largest variance: what varies less is scaled as if it varied so much

Blocks = Iterable[Float[np.ndarray, "_ _"]]  # (rows, k): axes without names, as blocks differ


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Coordinates:
    """t = F⁻¹ (z - mean), with F lower triangular."""

    mean: Float64[np.ndarray, " k"]
    factor: Float64[np.ndarray, "k k"]

    def apply(self, rows: Float[np.ndarray, "rows k"]) -> Float32[np.ndarray, "rows k"]:
        """Rows of t from rows of z."""
        apart = (rows - self.mean).T
        found: Float64[np.ndarray, "k rows"]
        found = scipy.linalg.solve_triangular(self.factor, apart, lower=True, check_finite=False)
        return np.ascontiguousarray(found.T, dtype=np.float32)

    def undo(self, rows: Float[np.ndarray, "rows k"]) -> Float32[np.ndarray, "rows k"]:
        """Rows of z from rows of t."""
        return np.asarray(rows @ self.factor.T + self.mean, dtype=np.float32)

    def prefix(self, width: int) -> "Coordinates":
        """The same for the first ``width`` numbers alone."""
        return Coordinates(mean=self.mean[:width], factor=self.factor[:width, :width])

    def fold_head(
        self, weight: Float[np.ndarray, "classes k"], bias: Float[np.ndarray, " classes"]
    ) -> tuple[Float32[np.ndarray, "classes k"], Float32[np.ndarray, " classes"]]:
        """Weight and bias that give from t the logits which these give from z."""
        reads_t = weight.astype(np.float64) @ self.factor
        moved = weight.astype(np.float64) @ self.mean + bias
        return reads_t.astype(np.float32), moved.astype(np.float32)

    @torch.no_grad()
    def fold_back(self, encoder: Encoder) -> None:
        """Make a student that answers in t answer in z, by its neck alone; its scale becomes 1.

        ``StudentError`` for a student without a neck of this width.
        """
        neck = encoder.neck
        if not isinstance(neck, nn.Linear) or neck.out_features != len(self.mean):
            raise StudentError(
                "the student has no linear neck of the targets' width to put their units into; "
                "take raw targets"
            )
        scale = float(encoder.scale)
        factor, mean = torch.from_numpy(self.factor), torch.from_numpy(self.mean)
        weight, bias = (
            scale * factor @ tensor.detach().cpu().double() for tensor in (neck.weight, neck.bias)
        )
        neck.weight.copy_(weight)
        neck.bias.copy_(bias + mean)
        encoder.scale.fill_(1.0)


def standardise(blocks: Blocks) -> Coordinates:
    """Each number less its mean, over its standard deviation, found in one pass over z."""
    mean, covariance = mean_and_covariance(blocks)
    variances = np.diagonal(covariance)
    return Coordinates(mean=mean, factor=np.diag(np.sqrt(_floored(variances))))


def whiten(blocks: Blocks) -> Coordinates:
    """Numbers of unit variance that do not go together, found in one pass over z."""
    mean, covariance = mean_and_covariance(blocks)
    variances, directions = np.linalg.eigh(covariance)
    floored = (directions * _floored(variances)) @ directions.T
    return Coordinates(mean=mean, factor=np.linalg.cholesky((floored + floored.T) / 2))


COORDINATES: dict[str, Callable[[Blocks], Coordinates]] = {
    "standardised": standardise,
    "whitened": whiten,
}


def mean_and_covariance(
    blocks: Blocks,
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "k k"]]:
    """Mean and covariance (over rows) in one pass; ``StudentError`` for no rows."""
    rows, centre, total, squares = 0, None, None, None
    for block in blocks:
        if not len(block):
            continue
        if centre is None or total is None or squares is None:
            # sums about a place near the mean lose no digits to a mean far from the origin
            centre = block.mean(axis=0, dtype=np.float64)
            total, squares = np.zeros(len(centre)), np.zeros((len(centre), len(centre)))
        apart = block - centre
        rows += len(block)
        total += apart.sum(axis=0)
        squares += apart.T @ apart
    if centre is None or total is None or squares is None:
        raise StudentError("targets without rows have no mean")
    shift = total / rows
    covariance: Float64[np.ndarray, "k k"] = squares / rows - np.outer(shift, shift)
    return centre + shift, covariance


def _floored(variances: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
    """Variances that can be divided by; 1 each where nothing varies at all."""
    largest = float(variances.max())
    return np.maximum(variances, FLOOR * largest) if largest > 0 else np.ones(len(variances))
