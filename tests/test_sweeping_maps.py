"""Maps of a training part: the fisher map weighs what the full head says of the chosen rows."""

from pathlib import Path

import numpy as np
import pytest

from distill.sweeping.maps import Part, maps_of
from distill.sweeping.rows import Rows
from projections import FisherProjection, gather_moments
from students import fit_path
from tests.sweep_examples import CLASSES, data, stores_of


@pytest.mark.parametrize("limit", [10**9, 1])
def test_a_fisher_map_is_of_the_chosen_rows_and_the_whole_head(tmp_path: Path, limit: int) -> None:
    drawn = data()
    features, labels = drawn["train"]
    chosen = np.flatnonzero(np.random.default_rng(1).random(len(labels)) < 0.7)
    rows, truth = features[chosen], labels[chosen]
    (head,) = fit_path(rows, truth, classes=CLASSES, l2=[1e-2], max_iterations=200)
    bias = head.bias + np.arange(CLASSES, dtype=np.float32)  # not to be forgotten
    moments = gather_moments([(rows, truth)], classes=CLASSES)
    part = Part(
        moments=moments,
        weight=head.weight,
        bias=bias,
        rows=Rows([stores_of(tmp_path, drawn)["train"]], limit),
        labels=labels,
        chosen=chosen,
    )
    found = maps_of("fisher", [4, 2], part, widest=6, seed=0, l2=1e-2, max_iterations=200)
    logits = rows @ head.weight.T + bias
    expected = FisherProjection(6).fit_head(moments, head.weight, [logits])
    for projection, width in zip(found, (4, 2), strict=True):
        np.testing.assert_allclose(
            projection.matrix, expected.matrix[:, :width], rtol=1e-4, atol=1e-5
        )
