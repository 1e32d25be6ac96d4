"""What a data-aware map is: (x - mean) @ matrix, as a scikit-learn transformer.

``FittedProjection`` holds and applies one, however it was found. Of a ``NestedProjection`` the
leading columns are the map to fewer dimensions, so one decomposition serves every width.
``MomentsProjection`` is the half of a map computed from moments that does not depend on the kind.
"""

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from projections.base import DEFAULT_COMPONENTS, LinearMap, ProjectionError, checked_width
from projections.gathering import gather_moments
from projections.moments import Moments

Fitted = TypeVar("Fitted", bound="FittedProjection")
Nested = TypeVar("Nested", bound="NestedProjection")
OfMoments = TypeVar("OfMoments", bound="MomentsProjection")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """Directions of a kind, best first, and how much of what the kind seeks lies along each."""

    matrix: Float[np.ndarray, "dim dim_out"]
    strengths: Float64[np.ndarray, " dim_out"]
    rank: int  # leading columns that carry what the kind seeks; the others fill up
    facts: Mapping[str, Any]  # JSON-able, told by describe


class FittedProjection(LinearMap):
    """A map computed from data: its mean and its matrix.

    After ``fit`` the map is ``mean_`` and ``matrix_``, float32 of shapes (n_features_in_,) and
    (n_features_in_, n_components_); ``strengths_`` says for each column how much the kind found
    along it, and ``rank_`` how many columns are of the kind: the others fill up.
    """

    algorithm: ClassVar[int] = 1  # raised when the same rows would give another map
    n_components: int | None
    seed: int = 0

    def _apply(
        self, X: Float[np.ndarray, "rows {self.dim_in}"]
    ) -> Float[np.ndarray, "rows {self.dim_out}"]:
        mapped: Float[np.ndarray, "rows {self.dim_out}"]
        mapped = (X - self.mean_) @ self.matrix_.astype(X.dtype, copy=False)
        return mapped

    def _invert(
        self, Y: Float64[np.ndarray, "rows {self.dim_out}"]
    ) -> Float64[np.ndarray, "rows {self.dim_in}"]:
        rows: Float64[np.ndarray, "rows {self.dim_in}"]
        rows = Y @ np.linalg.pinv(self.matrix_.astype(np.float64)) + self.mean_
        return rows

    @property
    def dim_out(self) -> int:
        """Width of the rows it makes."""
        self._settle()
        return int(self.matrix_.shape[1])

    @property
    def matrix(self) -> Float32[np.ndarray, "{self.dim_in} {self.dim_out}"]:
        """The map itself, read-only: a row x becomes (x - mean) @ matrix."""
        self._settle()
        return self.matrix_

    @property
    def mean(self) -> Float32[np.ndarray, " {self.dim_in}"]:
        """What is taken from every row first: the mean of the rows it was fitted on; read-only."""
        self._settle()
        return self.mean_

    def describe(self) -> dict[str, Any]:
        """Kind, widths, seed, columns that only fill up, and the SHA-256 of matrix and mean."""
        self._settle()
        return {
            "kind": self.kind,
            "dim_in": self.dim_in,
            "dim_out": self.dim_out,
            "seed": int(self.seed),
            "algorithm": self.algorithm,
            **self.facts_,
            "filled": max(0, self.dim_out - self.rank_),
            "digest": digest_of(self.matrix_, self.mean_),
        }

    @classmethod
    def of_parts(
        cls: type[Fitted], mean: Float[np.ndarray, " dim"], found: Solution, *, seed: int
    ) -> Fitted:
        """Make a map whose parts are known, as those of a saved one are."""
        settings = {"n_components": found.matrix.shape[1], "seed": seed, **found.facts}
        made = cls(**{name: settings[name] for name in cls().get_params() if name in settings})
        made._keep(mean, found)
        return made

    def _keep(self, mean: Float[np.ndarray, " dim"], found: Solution) -> None:
        self.n_features_in_ = len(mean)
        self.mean_ = mean.astype(np.float32)
        self.matrix_ = found.matrix.astype(np.float32, order="C")
        self.mean_.flags.writeable = self.matrix_.flags.writeable = False
        self.strengths_, self.rank_, self.facts_ = found.strengths, found.rank, dict(found.facts)

    def _wanted(self, moments: Moments, allowed: int) -> int:
        """Width that is asked for, else a small one of those ``allowed``."""
        if self.n_components is None:
            return max(1, min(DEFAULT_COMPONENTS, allowed, moments.dim, moments.rows))
        wanted = checked_width(self.n_components, moments.dim)
        if wanted > moments.rows:
            raise ProjectionError(
                f"n_components={wanted} is more than there are rows to fit it on, "
                f"n_samples={moments.rows}: ask for fewer, or give more rows"
            )
        return wanted

    def _check_two_classes(self, moments: Moments) -> None:
        present = np.count_nonzero(moments.counts)
        if present < 2:
            raise ProjectionError(
                f"a {self.kind} map tells classes apart: it needs rows of 2, "
                f"these are of {present} class"
            )


class NestedProjection(FittedProjection):
    """A map whose leading columns are the map to fewer dimensions."""

    def narrowed(self: Nested, dim_out: int) -> Nested:
        """Return the map to fewer dimensions that the same moments give: the first columns."""
        self._settle()
        if not 1 <= dim_out <= self.dim_out:
            raise ProjectionError(f"a map to {self.dim_out} cannot be narrowed to {dim_out}")
        narrow = copy.copy(self)
        narrow.__dict__.pop("moments_", None)
        narrow.n_components = dim_out
        cut = Solution(
            matrix=self.matrix_[:, :dim_out],
            strengths=self.strengths_[:dim_out],
            rank=self.rank_,
            facts=self.facts_,
        )
        narrow._keep(self.mean_, cut)
        return narrow


class MomentsProjection(NestedProjection):
    """A map that moments determine: fitted on rows, on parts of them, or on moments at hand.

    ``n_components`` is the width of the result. None takes 64, or as many as the data allows if
    they are fewer; more than there are columns or rows is a ``ProjectionError``.
    """

    supervised: ClassVar[bool]  # whether fit needs classes
    moments_: Moments

    # Any: by scikit-learn's rule whatever is set is taken here, and checked by fit.
    def __init__(self, n_components: Any = None) -> None:
        self.n_components = n_components

    @abstractmethod
    def _solve(self, moments: Moments, dim_out: int) -> Solution:
        """Find the directions: a pure function of the moments."""

    def _allowed(self, moments: Moments) -> int:
        """Count the directions that this kind can find in such data, for the default width."""
        return min(moments.dim, moments.rows)

    def fit(self: OfMoments, X: Any, y: Any = None) -> OfMoments:
        """Fit on these rows alone, and on their classes ``y`` if the kind needs them."""
        for left_over in ("moments_", "classes_", "matrix_"):
            self.__dict__.pop(left_over, None)
        self.partial_fit(X, y)
        self._settle()
        return self

    def partial_fit(self: OfMoments, X: Any, y: Any = None, classes: Any = None) -> OfMoments:
        """Take further rows; the map is computed when it is next used.

        ``classes`` are all there will be; without them the first call's ``y`` tells.
        """
        first = not hasattr(self, "moments_")
        if first and hasattr(self, "matrix_"):
            raise ProjectionError("this map does not hold its moments: fit it anew on all rows")
        X, codes = self._checked(X, y, classes, first=first)
        moments = gather_moments([(X, codes)], classes=0 if codes is None else len(self.classes_))
        self.moments_ = moments if first else self.moments_.merge(moments)
        self.__dict__.pop("matrix_", None)
        return self

    def fit_moments(self: OfMoments, moments: Moments) -> OfMoments:
        """Fit on moments at hand, which are not kept: no further rows can be taken."""
        self._keep(moments.mean, self._solve(moments, self._width(moments)))
        return self

    def _checked(
        self, X: Any, y: Any, classes: Any, *, first: bool
    ) -> tuple[Float[np.ndarray, "rows dim"], Int64[np.ndarray, " rows"] | None]:
        """Rows in float32 or float64, and the numbers of their classes if they have any."""
        if not self.supervised:
            return validate_data(self, X, dtype=[np.float32, np.float64], reset=first), None
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], reset=first)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(y if classes is None else classes)
        codes = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        wrong = np.flatnonzero(self.classes_[codes] != y)
        if len(wrong):
            raise ProjectionError(
                f"row {wrong[0]} is of class {y[wrong[0]]}, which the first call of partial_fit "
                "did not name"
            )
        return X, codes

    def _width(self, moments: Moments) -> int:
        """Width of the result; refuses classes that a supervised kind cannot be fitted on."""
        if self.supervised:
            self._check_two_classes(moments)
        return self._wanted(moments, self._allowed(moments))

    def _settle(self) -> None:
        check_is_fitted(self)
        if not hasattr(self, "matrix_"):
            self.fit_moments(self.moments_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.supervised
        return tags


def digest_of(matrix: Float32[np.ndarray, "dim dim_out"], mean: Float32[np.ndarray, " dim"]) -> str:
    """SHA-256 of matrix and mean, little-endian, row by row."""
    digest = hashlib.sha256()
    for array in (matrix, mean):
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return f"sha256:{digest.hexdigest()}"
