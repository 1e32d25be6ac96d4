"""The three verdicts, the width that speaks for each side, and the sentences word for word."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import StageError
from distill.verdicts import (
    COMPRESSIBLE,
    DATA_AWARE_ONLY,
    NOT_COMPRESSIBLE,
    Compressibility,
    MapLoss,
    compressibility,
)


def lost(kind: str, dim_out: int, points: float, separation: float | None = None) -> MapLoss:
    return MapLoss(
        kind=kind,
        data_aware=kind in ("pca", "head-svd"),
        dim_out=dim_out,
        loss=points / 100,
        separation=separation,
    )


def judged(maps: Sequence[MapLoss], tolerance: float = 0.01) -> Compressibility:
    return compressibility(maps, dim=384, classes=50, effective_rank=89.14, tolerance=tolerance)


FROZEN = [
    lost("gaussian", 96, 4.8, 0.41), lost("gaussian", 24, 25.8, 0.11),
    lost("orthogonal", 96, 3.8, 0.43), lost("orthogonal", 24, 25.6, 0.12),
    lost("pca", 96, 0.8, 0.62), lost("pca", 24, 6.1, 0.34), lost("head-svd", 24, 4.1),
]  # fmt: skip


def test_a_random_map_that_holds_makes_it_compressible() -> None:
    found = judged([lost("gaussian", 96, 0.5, 0.93), lost("pca", 96, -0.1, 0.99)])
    assert found.verdict == COMPRESSIBLE
    assert found.sentence == (
        "Compressible: gaussian loses 0.50 points at 96 of 384 dimensions (4x), 1.00 are allowed; "
        "96 is above C - 1 = 49 and above the effective rank of 89.1; separation of the classes "
        "kept on average: gaussian 93 %."
    )


def test_a_fitted_map_that_goes_further_is_told() -> None:
    found = judged([lost("gaussian", 96, 0.5), lost("pca", 49, -0.25), lost("pca", 12, 1.5)])
    assert found.verdict == COMPRESSIBLE
    assert found.sentence == (
        "Compressible: gaussian loses 0.50 points at 96 of 384 dimensions (4x), 1.00 are allowed; "
        "fitted to the data, pca gains 0.25 points at 49 of 384 dimensions (7.84x); "
        "96 is above C - 1 = 49 and above the effective rank of 89.1."
    )


def test_only_a_fitted_map_holds() -> None:
    found = judged(FROZEN)
    assert found.verdict == DATA_AWARE_ONLY
    assert found.sentence == (
        "Compressible only by a data-aware map: pca loses 0.80 points at 96 of 384 dimensions "
        "(4x), 1.00 are allowed; of the data-independent maps nearest in width orthogonal loses "
        "3.80 points at 96 of 384 dimensions (4x); 96 is above C - 1 = 49 and above the effective "
        "rank of 89.1; separation of the classes kept on average: pca 62 % and orthogonal 43 %."
    )


def test_no_map_holds() -> None:
    at_24 = [one for one in FROZEN if one.dim_out == 24]
    found = judged(at_24)
    assert found.verdict == NOT_COMPRESSIBLE
    assert found.sentence == (
        "Not compressible at the asked tolerance: at best head-svd loses 4.10 points at 24 of 384 "
        "dimensions (16x), 1.00 are allowed; of the data-independent maps nearest in width "
        "orthogonal loses 25.60 points at 24 of 384 dimensions (16x); 24 is below C - 1 = 49 and "
        "below the effective rank of 89.1; separation of the classes kept on average: "
        "orthogonal 12 %."
    )


def test_the_best_of_all_may_be_a_random_one() -> None:
    found = judged([lost("gaussian", 49, 3), lost("pca", 48, 5)])
    assert "at best gaussian loses 3.00" in found.sentence
    assert "of the data-aware maps nearest in width pca loses 5.00 points at 48" in found.sentence
    assert "49 is equal to C - 1 = 49 and below" in found.sentence


def test_a_side_that_was_not_measured_is_told() -> None:
    assert "no data-aware map was measured" in judged([lost("gaussian", 24, 9)]).sentence
    only_fitted = judged([lost("pca", 24, 0)])
    assert only_fitted.verdict == DATA_AWARE_ONLY
    assert "no data-independent map was measured" in only_fitted.sentence


def test_a_width_holds_only_if_every_larger_one_of_its_kind_does() -> None:
    lucky = [lost("gaussian", 96, 0.5), lost("gaussian", 48, 1.5), lost("gaussian", 24, 0.9)]
    assert "at 96 of 384" in judged(lucky).sentence
    lucky[0] = lost("gaussian", 96, 1.1)
    assert judged(lucky).verdict == NOT_COMPRESSIBLE
    other_kind = [lost("orthogonal", 96, 5), lost("gaussian", 48, 0.5)]
    assert judged(other_kind).sentence.startswith("Compressible: gaussian loses 0.50 points at 48")


def test_of_equal_widths_the_smaller_loss_speaks() -> None:
    maps = [lost("gaussian", 48, 0.9), lost("orthogonal", 48, 0.2), lost("sparse", 48, 0.4)]
    for order in itertools.permutations(maps):
        assert "orthogonal loses 0.20" in judged(order).sentence


def test_the_rival_is_the_best_at_the_nearest_width() -> None:
    found = judged([*FROZEN, lost("pca", 30, 0.7), lost("gaussian", 30, 60), lost("sparse", 30, 8)])
    assert "pca loses 0.70 points at 30" in found.sentence
    assert "nearest in width sparse loses 8.00 points at 30" in found.sentence


def test_the_full_width_compresses_nothing() -> None:
    assert judged([lost("gaussian", 384, 0), lost("gaussian", 96, 4)]).verdict == NOT_COMPRESSIBLE
    with pytest.raises(StageError, match=r"no map to fewer than 384 .* ask for a factor above 1"):
        judged([lost("gaussian", 384, 0)])
    with pytest.raises(StageError, match="no map to fewer than 384 dimensions was measured"):
        judged([])


def test_a_loss_of_just_the_tolerance_is_allowed() -> None:
    rounded = 0.95 - 0.94  # 0.010000000000000009
    one = MapLoss(kind="gaussian", data_aware=False, dim_out=96, loss=rounded)
    assert judged([one]).verdict == COMPRESSIBLE
    assert judged([lost("gaussian", 96, 1.001)]).verdict == NOT_COMPRESSIBLE


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1, float("nan")])
def test_a_tolerance_without_meaning_is_refused(tolerance: float) -> None:
    with pytest.raises(StageError, match="tolerance must lie strictly between 0 and 1, got"):
        judged(FROZEN, tolerance)


@given(
    random=st.lists(st.floats(-1, 50), min_size=1, max_size=5),
    fitted=st.lists(st.floats(-1, 50), min_size=1, max_size=5),
    tolerance=st.floats(0.001, 0.2),
    more=st.floats(0.001, 0.2),
)
def test_what_more_tolerance_allows_never_gets_worse(
    random: list[float], fitted: list[float], tolerance: float, more: float
) -> None:
    maps = [lost("gaussian", 96 - at, points) for at, points in enumerate(random)]
    maps += [lost("pca", 96 - at, points) for at, points in enumerate(fitted)]
    order = [NOT_COMPRESSIBLE, DATA_AWARE_ONLY, COMPRESSIBLE]
    strict, lenient = (judged(maps, limit).verdict for limit in (tolerance, tolerance + more))
    assert order.index(strict) <= order.index(lenient)
