"""Linear heads: multinomial logistic regression on stored features, and its one file on disk.

With x' = (x - mean) / scale, where ``scale`` is the one root-mean-square of all deviations of the
training features from their mean, a head minimises

    mean cross-entropy(W x' + b) + l2 / 2 ||W||²        (the bias is not penalised)

which is scikit-learn's ``LogisticRegression(C=1 / (rows * l2))`` on x / scale: taking the mean
away moves no minimum, as the bias takes it up, and makes the descent short. Mean and scale are
folded back, so the head that is returned reads the features as they are stored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from students.errors import StudentError
from students.minimise import minimise

NEVER = -1e4  # bias of a class without a training row: finite, yet never the largest
GAP = 1e-4  # converged: this share of the objective is the most that is left to gain
FORMAT = 1
CARD = frozenset({"format", "l2", "validation_accuracy", "converged", "meta"})


class HeadError(StudentError):
    """A head cannot be fitted on this data, or a file does not hold the head it should."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead:
    """A linear classifier of features and what is known of its fit."""

    weight: Float32[np.ndarray, "classes dim"]
    bias: Float32[np.ndarray, " classes"]
    l2: float  # the one that validation chose
    validation_accuracy: float
    converged: bool  # whether the fit came as near to its minimum as GAP says

    def logits(
        self, features: Float[np.ndarray, "rows dim"]
    ) -> Float32[np.ndarray, "rows classes"]:
        """``features @ weight.T + bias``, in float32 whatever the features are stored in."""
        rows: Float32[np.ndarray, "rows dim"] = features.astype(np.float32, copy=False)
        logits: Float32[np.ndarray, "rows classes"] = rows @ self.weight.T + self.bias
        return logits

    def predict(self, features: Float[np.ndarray, "rows dim"]) -> Int64[np.ndarray, " rows"]:
        """Class of the largest logit; of equal ones the first."""
        best: Int64[np.ndarray, " rows"] = self.logits(features).argmax(axis=1)
        return best


def fit_head(
    train_features: Float[np.ndarray, "train dim"],
    train_labels: Int64[np.ndarray, " train"],
    validation_features: Float[np.ndarray, "validation dim"],
    validation_labels: Int64[np.ndarray, " validation"],
    *,
    classes: int,
    l2: Sequence[float],
    max_iterations: int,
) -> FittedHead:
    """Fit one head for each ``l2`` and return the one with the fewest validation errors.

    Of equally good ones the most regularised is taken. The fits start from zero, largest ``l2``
    first, each from where the last one ended; nothing is drawn, so there is no seed. A class
    without a training row is never predicted. Holds one float32 copy of the training features.
    Empty splits, a single class, labels out of range and values that are not finite raise
    ``HeadError``.
    """
    _check(train_features, train_labels, classes=classes, what="training")
    _check(validation_features, validation_labels, classes=classes, what="validation")
    if not l2 or min(l2) <= 0:
        raise HeadError(f"l2 must name at least one value above 0, got {list(l2)}")
    present, targets = np.unique(train_labels, return_inverse=True)
    if len(present) < 2:
        raise HeadError(
            f"all {len(train_labels)} training rows are of class {present[0]}; "
            "a head needs at least two classes"
        )
    scaled, mean, scale = _scaled(train_features)
    parameters = np.zeros((len(present), scaled.shape[1] + 1))
    fitted = []
    for strength in sorted(l2, reverse=True):
        parameters, converged = _descend(scaled, targets, parameters, strength, max_iterations)
        weight, bias = _folded(parameters, mean, scale, present, classes)
        head = FittedHead(
            weight=weight,
            bias=bias,
            l2=float(strength),
            validation_accuracy=0.0,
            converged=converged,
        )
        hits = head.predict(validation_features) == validation_labels
        fitted.append(replace(head, validation_accuracy=float(hits.mean())))
    return max(fitted, key=lambda head: head.validation_accuracy)  # of equals the first


def _check(
    features: Float[np.ndarray, "rows dim"],
    labels: Int64[np.ndarray, " rows"],
    *,
    classes: int,
    what: str,
) -> None:
    if len(labels) == 0:
        raise HeadError(f"the {what} split has no rows; a head needs some")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise HeadError(
            f"{what} row {wrong[0]} has label {labels[wrong[0]]}, which is not one of the "
            f"{classes} classes"
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise HeadError(f"{what} row {int(np.argmin(finite))} holds NaN or infinite features")


def _scaled(
    features: Float[np.ndarray, "rows dim"],
) -> tuple[Float32[np.ndarray, "rows dim"], Float64[np.ndarray, " dim"], float]:
    """``(x - mean) / scale``, the mean and the scale; rows that are all equal have scale 1."""
    mean = features.mean(axis=0, dtype=np.float64)
    deviations = (features - mean.astype(np.float32)).astype(np.float32, copy=False)
    flat = deviations.ravel()
    scale = float(np.sqrt(float(np.dot(flat, flat)) / flat.size)) or 1.0
    deviations /= np.float32(scale)
    return deviations, mean, scale


def _descend(
    rows: Float32[np.ndarray, "rows dim"],
    targets: Int64[np.ndarray, " rows"],
    start: Float64[np.ndarray, "classes columns"],
    l2: float,
    max_iterations: int,
) -> tuple[Float64[np.ndarray, "classes columns"], bool]:
    """Minimise the objective over ``[W, b]``, the bias being the last column."""
    which = np.arange(len(rows))

    def objective(
        parameters: Float64[np.ndarray, "classes columns"],
    ) -> tuple[float, Float64[np.ndarray, "classes columns"]]:
        weight, bias = parameters[:, :-1], parameters[:, -1]
        logits = rows @ weight.T.astype(np.float32) + bias.astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        right = logits[which, targets].astype(np.float64)
        chances = np.exp(logits, out=logits)
        totals = chances.sum(axis=1)
        value = float(np.mean(np.log(totals.astype(np.float64)) - right))
        chances /= totals[:, None]
        chances[which, targets] -= 1
        gradient = np.empty_like(parameters)
        gradient[:, :-1] = chances.T @ rows
        gradient[:, -1] = chances.sum(axis=0, dtype=np.float64)
        gradient /= len(rows)
        gradient[:, :-1] += l2 * weight
        return value + l2 / 2 * float(np.vdot(weight, weight)), gradient

    def enough(value: float, gradient: Float64[np.ndarray, "classes columns"]) -> bool:
        # The objective curves at least by l2, so value - minimum <= ||gradient||² / (2 l2). The
        # bias alone has no such floor, but its curvature is that of the class shares, far above.
        return float(np.vdot(gradient, gradient)) <= 2 * l2 * GAP * value

    return minimise(objective, start, enough=enough, max_iterations=max_iterations)


def _folded(
    parameters: Float64[np.ndarray, "present columns"],
    mean: Float64[np.ndarray, " dim"],
    scale: float,
    present: Int64[np.ndarray, " present"],
    classes: int,
) -> tuple[Float32[np.ndarray, "classes dim"], Float32[np.ndarray, " classes"]]:
    """Return to unscaled features, with a row for every class."""
    weight = np.zeros((classes, len(mean)))
    bias = np.full(classes, NEVER)
    weight[present] = parameters[:, :-1] / scale
    bias[present] = parameters[:, -1] - weight[present] @ mean
    return weight.astype(np.float32), bias.astype(np.float32)


def save_head(path: Path, head: FittedHead, meta: Mapping[str, Any]) -> None:
    """Write one safetensors file, whole or not at all.

    ``meta`` is what JSON can hold: ``classes``, the list of class names in the order of the
    weight's rows, and whatever tells what the head was trained on.
    """
    names = meta.get("classes")
    if not isinstance(names, (list, tuple)) or len(names) != len(head.weight):
        raise HeadError(f"meta['classes'] must name the {len(head.weight)} classes, got {names!r}")
    from safetensors.numpy import save

    card = {
        "format": FORMAT,
        "l2": head.l2,
        "validation_accuracy": head.validation_accuracy,
        "converged": head.converged,
        "meta": dict(meta),
    }
    # one metadata key: safetensors writes several in an order that changes from run to run
    data = save(
        {"weight": np.ascontiguousarray(head.weight), "bias": head.bias},
        metadata={"head": json.dumps(card, sort_keys=True)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_bytes(data)
    scratch.replace(path)


def load_head(
    path: Path, *, dim: int = 0, classes: Sequence[str] = ()
) -> tuple[FittedHead, dict[str, Any]]:
    """Head in a file and its ``meta``.

    ``dim`` and ``classes``, where given, are what the caller needs it to read and to tell apart;
    another head, and a file that is damaged or holds something else, raise ``HeadError``.
    """
    tensors, card = _read(path)
    weight, bias, meta = tensors["weight"], tensors["bias"], card["meta"]
    names = tuple(meta["classes"])
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or len(names) != len(weight):
        raise HeadError(
            f"{path} is damaged: weight {weight.shape}, bias {bias.shape} and {len(names)} class "
            "names do not belong together; train the head again"
        )
    if dim and weight.shape[1] != dim:
        raise HeadError(
            f"the head in {path} reads {weight.shape[1]} features, not {dim}; "
            "train a head on the store it is to be used with"
        )
    if classes and names != tuple(classes):
        raise HeadError(f"the head in {path} tells other classes apart: {_unlike(names, classes)}")
    return (
        FittedHead(
            weight=weight.astype(np.float32, copy=False),
            bias=bias.astype(np.float32, copy=False),
            l2=float(card["l2"]),
            validation_accuracy=float(card["validation_accuracy"]),
            converged=bool(card["converged"]),
        ),
        meta,
    )


def _unlike(here: Sequence[str], wanted: Sequence[str]) -> str:
    """First thing in which two lists of class names differ."""
    if len(here) != len(wanted):
        return f"{len(here)} instead of {len(wanted)}"
    at = next(i for i, (a, b) in enumerate(zip(here, wanted, strict=True)) if a != b)
    return f"class {at} is {here[at]!r}, not {wanted[at]!r}"


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and card of a head file, as they stand there."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise HeadError(f"there is no head at {path}; run train-head first")
    try:
        with safe_open(path, framework="numpy") as file:
            card = json.loads((file.metadata() or {})["head"])
            tensors = {name: file.get_tensor(name) for name in ("weight", "bias")}
        missing = sorted(CARD - set(card)) or sorted({"classes"} - set(card["meta"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise HeadError(f"{path} does not hold a head that can be read: {error}") from error
    if missing or card["format"] != FORMAT:
        what = f"without {missing[0]!r}" if missing else f"of format {card['format']}"
        raise HeadError(f"{path} holds a head {what}; train the head again")
    return tensors, card
