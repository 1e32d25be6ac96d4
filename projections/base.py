"""What every projection promises: a linear map to fewer dimensions, as a scikit-learn transformer.

``Projection`` is what the pipeline asks for; ``LinearMap`` is what scikit-learn asks for, of any
kind; ``RandomProjection`` is the half of a data-independent map that does not depend on how it is
drawn; ``DenseProjection`` holds a matrix. For the random ones a kind, two widths and a seed are the
whole map: fitting reads the shape of the data and nothing else.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

Drawn = TypeVar("Drawn", bound="RandomProjection")  # Self, which beartype cannot check here

DEFAULT_COMPONENTS = 64  # where none are asked for and the data has that many columns


class ProjectionError(ValueError):
    """A map cannot be made, or not be applied to these rows."""


class UnknownKindError(ProjectionError):
    """No projection of that kind."""


@runtime_checkable
class Projection(Protocol):
    """A fitted linear map from ``dim_in`` to ``dim_out`` dimensions. Equal names, equal bits."""

    @property
    def kind(self) -> str:
        """Name in the table of kinds."""
        ...

    @property
    def dim_in(self) -> int:
        """Width of the rows it reads."""
        ...

    @property
    def dim_out(self) -> int:
        """Width of the rows it makes."""
        ...

    @property
    def seed(self) -> int:
        """Of a random map; 0 for a map that has none."""
        ...

    @property
    def matrix(self) -> Float32[np.ndarray, "{self.dim_in} {self.dim_out}"]:
        """The map itself, read-only: a row x becomes x @ matrix."""
        ...

    def transform(
        self, X: Float[np.ndarray, "rows {self.dim_in}"]
    ) -> Float[np.ndarray, "rows {self.dim_out}"]:
        """Map rows; float32 stays float32."""
        ...

    def describe(self) -> dict[str, Any]:
        """Say what a store made with it records: JSON-able, equal for equal maps only."""
        ...


# scikit-learn is untyped, hence the ignored base classes
class LinearMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """How a map of any kind is applied. float32 stays float32, float64 stays float64."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def dim_out(self) -> int:
        """Width of the rows it makes."""

    @abstractmethod
    def _apply(
        self, X: Float[np.ndarray, "rows {self.dim_in}"]
    ) -> Float[np.ndarray, "rows {self.dim_out}"]:
        """Map rows, in their precision."""

    @abstractmethod
    def _invert(
        self, Y: Float64[np.ndarray, "rows {self.dim_out}"]
    ) -> Float64[np.ndarray, "rows {self.dim_in}"]:
        """Find the shortest rows, from the mean if there is one, that map nearest to these."""

    def _settle(self) -> None:
        """Make sure that there is a map."""
        check_is_fitted(self)

    def transform(self, X: Any) -> Any:
        """Map rows (rows, dim_in) to (rows, dim_out), in the precision they come in.

        Other types than float64 are read as float32. The result is an array, or what
        ``set_output`` asked for.
        """
        self._settle()
        return self._apply(validate_data(self, X, dtype=[np.float32, np.float64], reset=False))

    def inverse_transform(self, X: Any) -> Any:
        """Find the shortest rows that map to these: least squares, in float64, then X's type."""
        self._settle()
        X = check_array(X, dtype=[np.float32, np.float64])
        if X.shape[1] != self.dim_out:
            raise ProjectionError(
                f"X has {X.shape[1]} columns, but this {type(self).__name__} "
                f"makes rows of {self.dim_out}"
            )
        return self._invert(X.astype(np.float64)).astype(X.dtype)

    @property
    def dim_in(self) -> int:
        """Width of the rows it reads."""
        check_is_fitted(self)
        return int(self.n_features_in_)

    @property
    def _n_features_out(self) -> int:
        return self.dim_out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class RandomProjection(LinearMap):
    """A map drawn from a seed.

    ``n_components`` is the width of the result. None takes 64, or as many as there are columns if
    they are fewer; more than there are columns is a ``ProjectionError``.
    """

    algorithm: ClassVar[int]  # raised when the same seed would give other bits
    n_components: int | None
    seed: int

    # Any: by scikit-learn's rule whatever is set is taken here, and checked by fit.
    def __init__(self, n_components: Any = None, *, seed: Any = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    @property
    @abstractmethod
    def matrix(self) -> Float32[np.ndarray, "{self.dim_in} {self.dim_out}"]:
        """The map itself, read-only: a row x becomes x @ matrix."""

    @abstractmethod
    def _draw(self, dim_in: int, dim_out: int, seed: int) -> None:
        """Draw and keep the map; the same bits on every machine."""

    @abstractmethod
    def _bits(self) -> Iterator[np.ndarray]:
        """Yield what the digest is of: little-endian, row by row."""

    def _invert(
        self, Y: Float64[np.ndarray, "rows {self.dim_out}"]
    ) -> Float64[np.ndarray, "rows {self.dim_in}"]:
        matrix = self.matrix.astype(np.float64)
        # NumPy's own limit, 1e-15, is too near to rounding for a map that lost rank
        inverse = np.linalg.pinv(matrix, len(matrix) * np.finfo(np.float64).eps)
        rows: Float64[np.ndarray, "rows {self.dim_in}"] = Y @ inverse
        return rows

    def fit(self: Drawn, X: Any, y: object = None) -> Drawn:
        """Draw the map for rows as wide as those of ``X``; nothing else is read from them."""
        del y
        X = validate_data(self, X, dtype=[np.float32, np.float64])
        return self._drawn(X.shape[1])

    def fit_width(self: Drawn, dim_in: int) -> Drawn:
        """Draw the map for rows of this width: ``fit`` without rows."""
        self.n_features_in_ = at_least("dim_in", dim_in, 1)
        return self._drawn(self.n_features_in_)

    @property
    def dim_out(self) -> int:
        """Width of the rows it makes."""
        check_is_fitted(self)
        return self.n_components_

    def describe(self) -> dict[str, Any]:
        """Kind, widths, seed, and the SHA-256 of what was drawn: ``_bits`` says what."""
        digest = hashlib.sha256()
        for bits in self._bits():
            digest.update(np.ascontiguousarray(bits).data)
        return {
            "kind": self.kind,
            "dim_in": self.dim_in,
            "dim_out": self.dim_out,
            "seed": int(self.seed),
            "algorithm": self.algorithm,
            "digest": "sha256:" + digest.hexdigest(),
        }

    def _drawn(self: Drawn, dim_in: int) -> Drawn:
        seed = at_least("seed", self.seed, 0)
        wanted = self.n_components
        dim_out = min(DEFAULT_COMPONENTS, dim_in) if wanted is None else wanted
        dim_out = checked_width(dim_out, dim_in)
        self.n_components_ = dim_out
        self._draw(dim_in, dim_out, seed)
        return self


class DenseProjection(RandomProjection):
    """A map held and applied as ``matrix_``, float32 of shape (n_features_in_, n_components_)."""

    @staticmethod
    @abstractmethod
    def draw(dim_in: int, dim_out: int, seed: int) -> Float32[np.ndarray, "{dim_in} {dim_out}"]:
        """Draw the matrix of this kind: a pure function, bit-identical on every machine."""

    @property
    def matrix(self) -> Float32[np.ndarray, "{self.dim_in} {self.dim_out}"]:
        """The map itself, read-only: a row x becomes x @ matrix."""
        check_is_fitted(self)
        return self.matrix_

    def _draw(self, dim_in: int, dim_out: int, seed: int) -> None:
        self.matrix_ = self.draw(dim_in, dim_out, seed)
        self.matrix_.flags.writeable = False

    def _apply(
        self, X: Float[np.ndarray, "rows {self.dim_in}"]
    ) -> Float[np.ndarray, "rows {self.dim_out}"]:
        mapped: Float[np.ndarray, "rows {self.dim_out}"]
        mapped = X @ self.matrix_.astype(X.dtype, copy=False)
        return mapped

    def _bits(self) -> Iterator[np.ndarray]:
        yield self.matrix.astype("<f4", copy=False)


def checked_width(dim_out: object, dim_in: int) -> int:
    """Width of the result that ``n_components`` asks for; ``ProjectionError`` if it cannot be."""
    wanted = at_least("n_components", dim_out, 1)
    if wanted > dim_in:
        raise ProjectionError(
            f"n_components={wanted} is more than the data has columns, n_features={dim_in}: "
            "a projection goes to fewer dimensions"
        )
    return wanted


def at_least(name: str, value: object, least: int) -> int:
    """Whole number that a setting must be; ``ProjectionError`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ProjectionError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
