"""What the data has, on rows that no map or head of the test was fitted on: validation."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from distill.findings import Diagnostics, SweptMap
from distill.sweeping.rows import Rows
from distill.verdicts import Compressibility, MapLoss, compressibility
from projections import (
    ProjectionError,
    covariance_participation_ratio,
    effective_rank,
    gather_moments,
    levina_bickel,
    neural_collapse,
    two_nn,
)

SAMPLE = 4000  # rows among which neighbours are looked for


def diagnose(
    validation: Rows,
    labels: Int64[np.ndarray, " rows"],
    margins: Float32[np.ndarray, " held"],
    *,
    classes: int,
) -> Diagnostics:
    """Dimensions, ranks and collapse of the validation rows; one pass over them.

    ``margins`` are the full head's, relative to the rows' spread, of rows that cross-validation
    held out. What is not defined for these rows (too few, all equal) is None.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(validation.count)[:SAMPLE])
    sample = np.empty((len(chosen), validation.dim), np.float32)

    def blocks() -> Iterator[tuple[Float32[np.ndarray, "some dim"], Int64[np.ndarray, " some"]]]:
        for start, features in validation.blocks():
            stop = start + len(features)
            first, last = np.searchsorted(chosen, (start, stop))
            sample[first:last] = features[chosen[first:last] - start]
            yield features, labels[start:stop]

    moments = gather_moments(blocks(), classes=classes)
    covariance = moments.covariance
    figures = {
        "two_nn": _defined(lambda: two_nn(sample)),
        "levina_bickel": _defined(lambda: levina_bickel(sample)),
        "participation_ratio": _defined(lambda: covariance_participation_ratio(covariance)),
        "effective_rank": _defined(lambda: effective_rank(covariance)),
    }
    try:
        collapse = neural_collapse(moments)
    except ProjectionError:  # one class only, or classes that are not apart
        figures |= dict.fromkeys(("nc1", "scatter_ratio", "cosine_mean", "norm_spread"))
    else:
        figures |= {
            "nc1": collapse.nc1,
            "scatter_ratio": collapse.scatter_ratio,
            "cosine_mean": collapse.cosine_mean,
            "norm_spread": collapse.norm_spread,
        }
    for name, level in (("margin_low", 10), ("margin_middle", 50)):
        figures[name] = float(np.percentile(margins, level)) if len(margins) else None
    return Diagnostics(rows=validation.count, figures=figures)


def judged(
    maps: Sequence[SweptMap], found: Diagnostics, *, dim: int, classes: int, tolerance: float
) -> Compressibility:
    """The plain sentence: compressible, only by a data-aware map, or not, and why."""
    return compressibility(
        [
            MapLoss(
                kind=one.kind,
                data_aware=one.data_aware,
                dim_out=one.dim_out,
                loss=one.loss.mean,
                separation=None if one.separation is None else one.separation.mean,
            )
            for one in maps
        ],
        dim=dim,
        classes=classes,
        effective_rank=found.figures["effective_rank"],
        tolerance=tolerance,
    )


def _defined(measure: Callable[[], float]) -> float | None:
    try:
        return measure()
    except ProjectionError:
        return None
