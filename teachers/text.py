"""Texts, and pairs of texts, to one padded batch of tokens."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teachers.base import Prepared
from teachers.errors import TeacherError

PAIR = 2


@dataclass(frozen=True)
class PrepareTexts:
    """Tokenises strings, or pairs of strings, and pads them to the longest of the batch."""

    tokenizer: Any
    max_length: int

    def __call__(self, inputs: Sequence[Any]) -> Prepared:
        """Prepare one batch: (rows, tokens) int64 tensors by the names the network reads."""
        for row, text in enumerate(inputs):
            if not _is_text(text):
                told = f"input {row} is {type(text).__name__}"
                raise TeacherError(f"a text teacher reads strings or pairs of strings, {told}")
        pairs = [text for text in inputs if not isinstance(text, str)]
        if pairs and len(pairs) != len(inputs):
            raise TeacherError("a batch holds single texts or pairs, not both")
        first = [text if isinstance(text, str) else text[0] for text in inputs]
        second = [pair[1] for pair in pairs] or None
        told = self.tokenizer(
            first,
            second,
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        )
        return dict(told) if told["input_ids"].numel() else self._nothing(len(inputs))

    def _nothing(self, rows: int) -> Prepared:
        """Empty texts, to which the tokenizer adds nothing: one token each, which is padding."""
        one = {"padding": "max_length", "truncation": True, "max_length": 1}
        return dict(self.tokenizer([""] * rows, return_tensors="pt", **one))


def text_length(text: str | tuple[str, str]) -> int:
    """Characters: cheap to count, and close enough to tokens to batch like with like."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def describe_tokenizer(tokenizer: Any) -> dict[str, str]:
    """Class and sha256 of a tokenizer: equal ones give equal tokens.

    Truncation and padding are left out: each call sets them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        held: Any = sorted(tokenizer.get_vocab().items())
    else:
        held = json.loads(backend.to_str())
        held = {k: v for k, v in held.items() if k not in {"truncation", "padding"}}
    text = json.dumps(held, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"tokenizer": type(tokenizer).__name__, "tokenizer_sha256": digest}


def _is_text(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) == PAIR and all(isinstance(part, str) for part in value)
    return isinstance(value, str)
