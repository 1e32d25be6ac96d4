"""What a budget of a language model is worth, beside a plain loop over its places."""

import math

import numpy as np
import torch

from distill.language import AGREED, DIVERGENCE, RIGHT, SURPRISE, UNTOLD, figures, next_tokens


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
