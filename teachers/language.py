"""Causal language models of transformers: what they say of every next token.

``load_language`` reads one with its weights; ``build_language`` makes the same network of its
config alone, for weights that are read elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from teachers.errors import TeacherError, UnknownTeacherError, WeightsError
from teachers.hub import fetching
from teachers.transformers_networks import precision, quiet, told

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_AHEAD = 1e-3  # by which a later token may move what is said of earlier ones: rounding


@final
class Speaker(nn.Module):
    """A causal language model that is called with a prepared batch. ``model`` is transformers' own.

    What is done to its layers is done to ``model``, so that ``model.generate`` speaks with them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, prepared: Mapping[str, Tensor]) -> Float[Tensor, "rows tokens vocabulary"]:
        """Logits of ``input_ids`` (rows, tokens): those at a place are of the token after it."""
        logits: Tensor = self.model(**prepared, use_cache=False).logits
        return logits


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Language:
    """A language model, how its like is built anew, and what it reads."""

    name: str
    speaker: Speaker
    config: Mapping[str, Any]  # JSON, as ``build_language`` takes it
    tokenizer: Any | None  # of transformers; None where none lies beside the weights
    vocabulary: int
    positions: int  # tokens that it reads at most; 0: not known


def load_language(name: str) -> Language:
    """A causal language model in float32, from a folder or the hub, in evaluation.

    ``UnknownTeacherError`` for a folder that is none, ``WeightsError`` for weights that are not
    here, damaged, or a pickle that holds more than tensors; ``TeacherError`` for a network that
    tells classes, that reads with an encoder, or whose tokens see those after them.
    """
    shown = f"hf/{name}"
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UnknownTeacherError(f"the folder {folder} holds no language model: no config.json")
    if not folder.is_dir() and (folder.is_absolute() or name.startswith((".", "~"))):
        raise UnknownTeacherError(f"there is no folder {folder} to load a language model from")
    with quiet(), fetching(shown), told(shown):
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(name)
        _check(config, shown)
        model, info = AutoModelForCausalLM.from_pretrained(
            name, config=config, output_loading_info=True, **precision()
        )
        lacking = [*info["missing_keys"], *info.get("mismatched_keys", ())]
        if lacking:
            named = ", ".join(sorted(str(key) for key in lacking)[:3])
            raise WeightsError(f"the weights of {shown} lack or do not fit {named}")
        tokenizer = _tokenizer(name)
    speaker = Speaker(model.float()).eval()
    _check_causal(speaker, int(config.vocab_size), shown)
    positions = getattr(config, "max_position_embeddings", None)
    return Language(
        name=name,
        speaker=speaker,
        config=config.to_dict(),
        tokenizer=tokenizer,
        vocabulary=int(config.vocab_size),
        positions=positions if isinstance(positions, int) and positions > 0 else 0,
    )


def build_language(config: Mapping[str, Any]) -> Speaker:
    """The same network with random weights, in evaluation; ``TeacherError`` where it is none."""
    with quiet(), told(str(config.get("model_type", "a language model"))):
        from transformers import AutoConfig, AutoModelForCausalLM

        made = AutoConfig.for_model(**config)
        return Speaker(AutoModelForCausalLM.from_config(made).float()).eval()


def _check(config: Any, shown: str) -> None:
    """Refuse by its config what is no causal language model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        kind = getattr(config, "model_type", "") or type(config).__name__
        raise TeacherError(
            f"{shown} ({kind}) is no causal language model; a network that tells classes is "
            "nested by distill nest"
        )


@torch.inference_mode()
def _check_causal(speaker: Speaker, vocabulary: int, shown: str) -> None:
    """Encoders build as language models too, and then see the tokens that they are asked for."""
    tokens = torch.arange(6)[None] % vocabulary
    other = tokens.clone()
    other[0, -1] = (tokens[0, -1] + 1) % vocabulary
    one, two = (speaker({"input_ids": each})[:, :-1] for each in (tokens, other))
    if not torch.isfinite(one).all():
        raise WeightsError(f"{shown} gives NaN or infinity: its weights are damaged")
    if float((one - two).abs().max()) > _AHEAD * float(one.abs().max()):
        raise TeacherError(
            f"the tokens of {shown} see those after them: it is no causal language model"
        )


def _tokenizer(name: str) -> Any | None:
    """The tokenizer beside the weights, where there is one."""
    folder = Path(name)
    if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)
