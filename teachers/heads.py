"""A teacher's own classifier: whether it is linear in the feature and knows the data's classes."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

Row = Mapping[str, frozenset[int]]


@torch.inference_mode()
def agrees(head: nn.Linear, features: torch.Tensor, logits: torch.Tensor) -> bool:
    """Whether head(features) are the network's own logits, to 1e-4 of the largest.

    Some networks put more between feature and logits than a linear map (SqueezeNet's ReLU,
    DeiT's second head); their classifier cannot be kept.
    """
    if features.ndim != 2 or features.shape[1] != head.in_features:
        return False
    found = head(features)
    if found.shape != logits.shape:
        return False
    return bool((found - logits).abs().max() <= 1e-4 * logits.abs().max().clamp(min=1e-6))


def map_head(
    head: nn.Linear | None, labels: Sequence[str], classes: Sequence[str]
) -> tuple[nn.Linear | None, tuple[str, ...], str]:
    """The rows of a head for these classes, their names, and what there is to say.

    Without classes the head stays as it is. A label may hold synonyms ("tench, Tinca tinca");
    case, "_" and "-" do not matter. A class no label names, or two do, drops the head.
    """
    if head is None:
        return None, (), ""
    if not classes:
        names = tuple(labels) or tuple(str(i) for i in range(head.out_features))
        return head, names, ""
    if not labels:
        why = f"its {head.out_features} classes have no names to find the data's among"
        return None, (), f"the teacher's own head was dropped: {why}"
    known = _rows_by_name(labels)
    rows = [known.get(_plain(name), frozenset()) for name in classes]
    lost = [name for name, found in zip(classes, rows, strict=True) if len(found) != 1]
    if lost:
        many = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        why = f"among its {head.out_features} classes it does not know {lost[0]!r}{many}"
        return None, (), f"the teacher's own head was dropped: {why}"
    return _rows(head, [next(iter(found)) for found in rows]), tuple(classes), ""


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _rows_by_name(labels: Sequence[str]) -> dict[str, frozenset[int]]:
    known: dict[str, set[int]] = {}
    for row, label in enumerate(labels):
        for name in {label, *label.split(",")}:
            known.setdefault(_plain(name), set()).add(row)
    return {name: frozenset(rows) for name, rows in known.items()}


def _rows(head: nn.Linear, rows: list[int]) -> nn.Linear:
    chosen = nn.Linear(head.in_features, len(rows), bias=head.bias is not None)
    with torch.no_grad():
        chosen.weight.copy_(head.weight[rows])
        if head.bias is not None:
            chosen.bias.copy_(head.bias[rows])
    return chosen
