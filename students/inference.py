"""Running a network over all rows of a feed, learning nothing, and how good its answers are."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import nn
from torch.nn import functional

from students.feeds import Feed, plain_order
from students.recipe import Evaluation
from students.steps import to_device

KNN_ROWS = 2000  # at most, so that it costs little beside an epoch


def forward_rows(
    network: nn.Module, feed: Feed, *, batch_size: int = 256, device: str = "cpu"
) -> Float32[np.ndarray, "rows width"]:
    """Return the network's output for each row. Eval mode, and back to the mode it was in."""
    was_training = network.training
    network.eval()
    at = torch.device(device)
    try:
        with torch.inference_mode():
            parts = [
                network(to_device(batch.inputs, at)).float().cpu()
                for batch in feed.batches(plain_order(feed.rows, batch_size))
            ]
    finally:
        network.train(was_training)
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def evaluate_logits(
    logits: Float32[np.ndarray, "rows classes"], labels: Int64[np.ndarray, " rows"]
) -> Evaluation:
    """Share of rows whose largest logit is the label's (ties: the first), and cross-entropy."""
    loss = functional.cross_entropy(
        torch.from_numpy(logits).double(), torch.from_numpy(np.ascontiguousarray(labels))
    )
    correct = logits.argmax(axis=1) == labels
    return Evaluation(accuracy=float(correct.mean()), loss=float(loss))


def knn_accuracy(
    rows: Float32[np.ndarray, "rows k"],
    labels: Int64[np.ndarray, " rows"],
    *,
    neighbours: int = 10,
) -> float:
    """Share of rows whose label wins among those of their nearest ``neighbours``; in [0, 1].

    Leave-one-out: a row is no neighbour of its own, a duplicate of it is. Distances are Euclidean
    and exact; the most frequent label wins, of several the one whose first row is the nearest.
    Of more than ``KNN_ROWS`` rows the first count. Of fewer rows than neighbours, all others vote;
    a row alone has none, and is wrong.
    """
    rows, labels = rows[:KNN_ROWS].astype(np.float64), labels[:KNN_ROWS]
    voters = min(neighbours, len(rows) - 1)
    if voters < 1:
        return 0.0
    rows -= rows.mean(axis=0)  # far from zero the formula below would round
    squares = np.square(rows).sum(axis=1)
    distances = squares[:, None] + squares - 2 * rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    near = np.argpartition(distances, voters - 1, axis=1)[:, :voters]
    order = np.take_along_axis(distances, near, axis=1).argsort(axis=1, kind="stable")
    votes = labels[np.take_along_axis(near, order, axis=1)]
    support = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)  # of each neighbour's label
    winners = votes[np.arange(len(votes)), support.argmax(axis=1)]  # the first is the nearest
    return float((winners == labels).mean())
