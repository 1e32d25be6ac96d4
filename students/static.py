"""Static students: the mean of a text's token embeddings, no attention; as fast as a look-up.

Tokens may learn what each of them counts: with ``weighting``, token t of a text has the share
exp(u_t) / Σ exp(u). The mean is taken by a product with the shares, so that it is counted and
exported as any other product is.
"""

import torch
from torch import Tensor, nn

from students.blueprint import Blueprint
from students.errors import StudentError, UnknownStudentError

_OPTIONS = ("weighting",)


class BagOfTokens(nn.Module):
    """(rows, tokens) of ids and mask -> (rows, dim); a row without tokens is zero."""

    def __init__(self, vocabulary: int, dim: int, *, padding_id: int, weighting: bool) -> None:
        super().__init__()
        padding = padding_id if 0 <= padding_id < vocabulary else None
        self.embeddings = nn.Embedding(vocabulary, dim, padding_idx=padding)
        self.weights = nn.Parameter(torch.zeros(vocabulary)) if weighting else None

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """Mean over the tokens that the mask shows."""
        ids = prepared["input_ids"]
        mask = prepared["attention_mask"].to(self.embeddings.weight.dtype)
        if self.weights is None:
            shares = mask / mask.sum(dim=1, keepdim=True).clamp_min(1)
        else:
            told = self.weights[ids]
            least = torch.finfo(told.dtype).min  # not -inf, of which a text without tokens is NaN
            shares = told.masked_fill(mask == 0, least).softmax(dim=1) * mask
        rows: Tensor = torch.bmm(shares.unsqueeze(1), self.embeddings(ids)).squeeze(1)
        return rows


def static_body(blueprint: Blueprint) -> tuple[nn.Module, int]:
    """Build the body of ``static/<dim>`` and its width; ``StudentError`` for what it cannot be."""
    told = blueprint.name.partition("/")[2]
    if not told.isascii() or not told.isdigit() or int(told) < 1:
        raise UnknownStudentError(
            f"no student named {blueprint.name!r}: static/<dim> wants the embeddings' width, as in "
            "static/256"
        )
    if blueprint.modality != "text":
        raise StudentError(f"static/{told} reads texts, but the data are {blueprint.modality}s")
    if blueprint.vocabulary < 1:
        raise StudentError(f"static/{told} needs the size of the tokenizer's vocabulary")
    unknown = sorted(set(blueprint.options) - set(_OPTIONS))
    weighting = blueprint.options.get("weighting", False)
    if unknown or not isinstance(weighting, bool):
        wrong = f"no option {unknown[0]!r}" if unknown else f"weighting = {weighting!r}"
        raise StudentError(
            f"static/{told} cannot be built with {wrong}; known: weighting = true or false"
        )
    dim = int(told)
    body = BagOfTokens(
        blueprint.vocabulary, dim, padding_id=blueprint.padding_id, weighting=weighting
    )
    return body, dim
