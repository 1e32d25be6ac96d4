"""Rivals for text that need no network to train: counted words, and vectors of single tokens.

``tfidf``: logistic regression on TF-IDF of words and word sequences. ``model2vec``: the teacher's
untaught network run over its vocabulary, token by token, once; a text is the mean of its tokens'
vectors (github.com/MinishLab/model2vec, an optional dependency), with logistic regression on that.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Int64

from distill.comparing.search import Among, Around, Settings, Space
from distill.errors import StageError
from students import fit_path

NEVER = -1e4  # logit of a class without a training row
ITERATIONS = 1000

TFIDF_SPACE: Space = {"inverse_penalty": Around(factor=10.0), "words": Among(values=(1, 2, 3))}
TFIDF_DEFAULTS: Settings = {"inverse_penalty": 10.0, "words": 2}
STATIC_SPACE: Space = {"l2": Around(factor=100.0)}
STATIC_DEFAULTS: Settings = {"l2": 1e-5}

Logits = Float32[np.ndarray, "rows classes"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TextClassifier:
    """Texts to logits, and what that takes."""

    logits: Callable[[Sequence[str]], Logits]
    parameters: int
    multiply_adds: int  # of a training text, on average


def plain_texts(inputs: Sequence[Any]) -> list[str]:
    """Texts as they are; of a pair both, one after the other."""
    return [one if isinstance(one, str) else " ".join(one) for one in inputs]


def tfidf(
    texts: Sequence[str], labels: Int64[np.ndarray, " rows"], *, classes: int, settings: Settings
) -> TextClassifier:
    """Logistic regression on TF-IDF of sequences of 1 to ``words`` words, log(1 + count) each.

    ``inverse_penalty`` is scikit-learn's ``C``. Texts without a word and a single class raise
    ``StageError``.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, settings["words"]), sublinear_tf=True)
    regression = LogisticRegression(C=settings["inverse_penalty"], max_iter=ITERATIONS)
    try:
        rows = vectorizer.fit_transform(texts)
        regression.fit(rows, labels)
    except ValueError as error:
        raise StageError(f"words of these texts cannot be learned from: {error}") from error

    def logits(asked: Sequence[str]) -> Logits:
        found = np.full((len(asked), classes), NEVER, np.float32)
        found[:, regression.classes_] = regression.predict_log_proba(vectorizer.transform(asked))
        return found

    return TextClassifier(
        logits=logits,
        parameters=vectorizer.idf_.size + regression.coef_.size + regression.intercept_.size,
        multiply_adds=round(rows.nnz / len(texts) * (1 + len(regression.intercept_))),
    )


def static_model(network: str, folder: Path) -> Any:
    """The model2vec model of a transformers folder or hub name, made once and kept in ``folder``.

    Raises ``StageError`` where the library is not installed, or cannot read the network.
    """
    distill, model_class = _model2vec()
    if not (folder / "model.safetensors").is_file():
        scratch = folder.with_name(f".{folder.name}.partial")
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # its bars are not ours
                distill(network, device="cpu").save_pretrained(scratch)
        except (OSError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise StageError(f"model2vec cannot read {network}: {line}") from error
        scratch.replace(folder)
    return model_class.from_pretrained(folder)


def _model2vec() -> tuple[Callable[..., Any], Any]:
    try:
        from model2vec import StaticModel
        from model2vec.distill import distill
    except ImportError as error:
        raise StageError(
            "the method model2vec needs a library that is not installed: run "
            "`pip install model2vec skeletoken`, or leave model2vec out of --methods"
        ) from error
    return distill, StaticModel


def static_vectors(model: Any, texts: Sequence[str]) -> Float32[np.ndarray, "rows dim"]:
    """One row a text, of length 1."""
    found = model.encode(list(texts), use_multiprocessing=False)
    return np.ascontiguousarray(found, dtype=np.float32)


def static_regression(
    model: Any,
    texts: Sequence[str],
    labels: Int64[np.ndarray, " rows"],
    *,
    classes: int,
    settings: Settings,
) -> TextClassifier:
    """Logistic regression on ``static_vectors``, with the penalty ``l2`` of a linear head."""
    rows = static_vectors(model, texts)
    (head,) = fit_path(
        rows, labels, classes=classes, l2=(settings["l2"],), max_iterations=ITERATIONS
    )
    tokens = sum(len(one) for one in model.tokenize(list(texts))) / len(texts)
    return TextClassifier(
        logits=lambda asked: head.logits(static_vectors(model, asked)),
        parameters=model.embedding.size + head.weight.size + head.bias.size,
        multiply_adds=round(tokens * model.dim) + head.weight.size,
    )
