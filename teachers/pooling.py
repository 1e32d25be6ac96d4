"""From whatever a layer gives to one row per input.

(rows, dim) stays; (rows, tokens, dim) is pooled over tokens, (rows, dim, h, w) or
(rows, h, w, dim) over space; anything else cannot be a feature.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float

from teachers.errors import TeacherError

Kind = str
KINDS: tuple[Kind, ...] = ("mean", "cls", "pooler")


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """How token sequences and maps become rows.

    ``mean`` averages the tokens that the attention mask keeps (text) or that follow the
    ``prefix`` class and register tokens (images); ``cls`` takes the first token.
    """

    kind: Kind
    prefix: int = 0
    channels_last: bool = False  # of a cube-shaped map, whose sides cannot tell

    def __call__(
        self, output: torch.Tensor, prepared: Mapping[str, torch.Tensor]
    ) -> Float[torch.Tensor, "rows dim"]:
        """Pool one layer's output."""
        if output.ndim == 2:
            return output
        if output.ndim == 3:
            return self._tokens(output, prepared.get("attention_mask"))
        if output.ndim == 4:
            return output.mean(dim=self.space(tuple(output.shape)))
        raise TeacherError(f"a layer of shape {tuple(output.shape)} cannot be pooled to rows")

    def _tokens(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if self.kind == "cls":
            return tokens[:, 0]
        if mask is None or mask.shape != tokens.shape[:2]:
            return tokens[:, self.prefix :].mean(dim=1)
        kept = mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)

    def space(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Which axes of a four-axis output are space: the two of equal length.

        Inputs are square, so maps are too.
        """
        _, a, b, c = shape
        if a == b and b != c:
            return (1, 2)
        if b == c and a != b:
            return (2, 3)
        return (1, 2) if self.channels_last else (2, 3)

    def describe(self, shape: tuple[int, ...]) -> str:
        """How an output of this shape is pooled, for the user."""
        if len(shape) == 4:
            return f"mean over space, axes {self.space(shape)} of {shape[1:]}"
        if len(shape) == 3:
            return "first token" if self.kind == "cls" else "mean over tokens"
        return "as it is"
