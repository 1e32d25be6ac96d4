"""What a budget of a language model is worth, beside a plain loop over its places."""

import math
from typing import cast

import numpy as np
import torch

from distill.contest import Contestant
from distill.contest_answers import Place
from distill.language import AGREED, DIVERGENCE, RIGHT, SURPRISE, UNTOLD, figures, next_tokens
from distill.language_curves import Heard, picked_of


def test_the_next_token_is_the_label_and_the_last_has_none() -> None:
    windows = torch.tensor([[3, 1, 2], [5, 5, 0]])
    assert next_tokens(windows).tolist() == [[1, 2, UNTOLD], [5, 0, UNTOLD]]
    assert windows.tolist() == [[3, 1, 2], [5, 5, 0]]


def test_figures_are_those_of_a_loop_over_places() -> None:
    rng = np.random.default_rng(0)
    rows, tokens, vocabulary = 3, 5, 4
    said, whole = rng.normal(size=(2, rows, tokens, vocabulary))
    windows = rng.integers(0, vocabulary, (rows, tokens))
    found = figures(
        torch.from_numpy(said).float(), torch.from_numpy(whole).float(), torch.from_numpy(windows)
    )
    for row in range(rows):
        sums = np.zeros(4)
        for at in range(tokens - 1):
            p, q = (np.exp(x[row, at]) / np.exp(x[row, at]).sum() for x in (said, whole))
            after = windows[row, at + 1]
            sums[SURPRISE] -= math.log(p[after])
            sums[DIVERGENCE] += (q * (np.log(q) - np.log(p))).sum()
            sums[RIGHT] += p.argmax() == after
            sums[AGREED] += p.argmax() == q.argmax()
        np.testing.assert_allclose(found[row], sums / (tokens - 1), rtol=1e-5)


def test_the_dense_network_is_no_way_from_itself() -> None:
    logits = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    found = figures(logits, logits, torch.zeros(2, 6, dtype=torch.int64))
    np.testing.assert_allclose(found[:, DIVERGENCE], 0.0, atol=1e-7)
    assert found[:, AGREED].tolist() == [1.0, 1.0]


def heard(rises: dict[str, list[float]], *, windows: int = 40) -> Heard:
    """A network whose surprise is above the dense one's by so much at each place."""
    places = tuple(
        Place(budget=share, share=share, parameters=1, trained=True) for share in (0.2, 0.5, 1.0)
    )
    noise = np.random.default_rng(0).normal(0.0, 1e-3, (3, 2, windows))
    figures = {}
    for split, above in rises.items():
        figures[split] = np.zeros((3, 2, windows, 4))
        figures[split][..., SURPRISE] = 2.0 + np.array(above)[:, None, None] + noise
    return Heard(contestant=cast(Contestant, None), places=places, figures=figures, answers=())


def dense(*, windows: int = 40) -> Heard:
    figures = {split: np.full((1, 1, windows, 4), 2.0) for split in ("validation", "test")}
    whole = (Place(budget=1.0, share=1.0, parameters=1, trained=True),)
    return Heard(contestant=cast(Contestant, None), places=whole, figures=figures, answers=())


def test_the_budget_is_picked_on_validation_whatever_test_windows_say() -> None:
    both = heard({"validation": [0.5, 0.005, 0.0], "test": [0.0, 0.5, 0.5]})
    found = picked_of(both, dense(), 0.01)
    assert found.share == 0.5
    assert found.validation.low < 0.005 < found.validation.high < math.log1p(0.01)
    assert found.test.low < 0.5 < found.test.high
    assert found.test.low > 0.4


def test_below_a_budget_that_is_not_shown_none_is_picked_and_the_largest_is_told_of() -> None:
    never = heard({"validation": [0.0, 0.0, 0.5], "test": [0.0, 0.0, 0.1]})
    found = picked_of(never, dense(), 0.01)
    assert found.share is None
    assert found.validation.low > 0.4
    assert 0.05 < found.test.low < 0.1
    through = heard({"validation": [0.0, 0.5, 0.0], "test": [0.0, 0.0, 0.0]})
    assert picked_of(through, dense(), 0.01).share == 1.0
