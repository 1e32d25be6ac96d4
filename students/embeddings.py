"""A text student's token embeddings cut from its teacher's: what the teacher knows of words.

The teacher's matrix is turned to its principal directions and the leading ones are kept, as
model2vec does.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn

from students.encoders import Encoder
from students.errors import StudentError
from students.static import BagOfTokens
from students.text import MeanOfTokens


@torch.no_grad()
def slice_embeddings(encoder: Encoder, matrix: Float[np.ndarray, "vocabulary dim"]) -> None:
    """Put the teacher's token embeddings into a text student, cut to its embeddings' width.

    Rows less their mean, along the leading principal directions, as large as the random numbers
    they replace; a wider student has zeros beyond. The row of the padding token becomes zero.
    ``StudentError`` for a student without token embeddings, and for one that reads other tokens.
    """
    table = _table(encoder)
    tokens, width = table.weight.shape
    if len(matrix) != tokens:
        raise StudentError(
            f"the teacher has embeddings of {len(matrix)} tokens and the student reads {tokens}: "
            "the tokenizers of teacher and student differ; build the student for the teacher's"
        )
    rows = _along_principal_directions(matrix.astype(np.float64), width)
    size = float(table.weight.square().mean().sqrt())
    found = torch.from_numpy(rows * (size / (float(np.sqrt(np.square(rows).mean())) or 1.0)))
    table.weight.copy_(found)
    if table.padding_idx is not None:
        table.weight[table.padding_idx].zero_()


def _table(encoder: Encoder) -> nn.Embedding:
    """The embeddings of tokens in a text student's body."""
    body = encoder.body
    if isinstance(body, BagOfTokens):
        return body.embeddings
    table = None
    if isinstance(body, MeanOfTokens):
        network: Any = body.network
        table = network.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise StudentError(
            "this student has no token embeddings that could be the teacher's; take random ones"
        )
    return table


def _along_principal_directions(
    rows: Float64[np.ndarray, "vocabulary dim"], width: int
) -> Float64[np.ndarray, "vocabulary width"]:
    """Numbers of the centred rows along the leading directions; zeros beyond their width."""
    centred = rows - rows.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    kept = directions[:, ::-1][:, :width]
    # of the two senses of a direction the one whose largest entry is positive: alike everywhere
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])]
    numbers = centred @ (kept * np.where(largest < 0, -1.0, 1.0))
    return np.pad(numbers, ((0, 0), (0, width - kept.shape[1])))
