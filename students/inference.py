"""Running a network over all rows of a feed, in their order, learning nothing."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import nn
from torch.nn import functional

from students.feeds import Feed, plain_order
from students.recipe import Evaluation
from students.steps import to_device


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
