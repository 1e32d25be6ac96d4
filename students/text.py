"""Small transformers encoders as student bodies: config values in, masked mean of tokens out."""

import inspect
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors
from torch import Tensor, nn

from students.blueprint import Blueprint
from students.errors import StudentError, UnknownStudentError, first_line, nearest

SMALL = {  # unless the options say otherwise; transformers maps the names for other families
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}

POSITIONS = ("position_embeddings", "wpe")  # tables of learned positions, by their names
# what transformers raises for values that cannot be; newer versions check the config's by the hub's
REFUSALS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    KeyError,
    NotImplementedError,
    getattr(errors, "StrictDataclassError", ValueError),
)
FAILURES: tuple[type[Exception], ...] = (*REFUSALS, AttributeError, RuntimeError, IndexError)


class MeanOfTokens(nn.Module):
    """The mean of the last hidden states of the real tokens, as the MiniLM family does."""

    def __init__(self, network: nn.Module, *, types: bool) -> None:
        super().__init__()
        self.network = network
        self.types = types

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """(rows, tokens) of ids and mask -> (rows, hidden)."""
        mask = prepared["attention_mask"]
        inputs = {"input_ids": prepared["input_ids"], "attention_mask": mask}
        if self.types and "token_type_ids" in prepared:
            inputs["token_type_ids"] = prepared["token_type_ids"]
        hidden: Tensor = self.network(**inputs).last_hidden_state
        real = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)


def text_body(blueprint: Blueprint) -> tuple[nn.Module, int]:
    """Build the encoder without its head; returns it and the width of its hidden states."""
    from transformers import AutoModel

    name = blueprint.name.partition("/")[2]
    if blueprint.modality != "text":
        raise StudentError(f"hf/{name} reads texts, but the data are {blueprint.modality}s")
    if blueprint.vocabulary < 1:
        raise StudentError(f"hf/{name} needs the size of the tokenizer's vocabulary")
    try:
        config = _config(name, blueprint)
        network = AutoModel.from_config(config)
    except UnknownStudentError:
        raise
    except REFUSALS as error:
        raise StudentError(
            f"hf/{name} cannot be built with the options {blueprint.options}: {first_line(error)}"
        ) from error
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # the mean is taken here; parameters never used would be counted
    types = "token_type_ids" in inspect.signature(network.forward).parameters
    body = MeanOfTokens(network.float(), types=types)
    _check_reads(body, blueprint)
    return body, int(config.hidden_size)


def positions_of(body: nn.Module) -> tuple[int, int]:
    """Tokens that a text student has learned positions for, and rows of their table taken before.

    (0, 0) where any number may be read. RoBERTa's begin after its padding index.
    """
    for name, module in body.named_modules():
        if name.endswith(POSITIONS) and isinstance(module, nn.Embedding):
            taken = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - taken, taken
    return 0, 0


@torch.no_grad()
def _check_reads(body: MeanOfTokens, blueprint: Blueprint) -> None:
    """Refuse networks that transformers builds but that are no encoders of tokens."""
    ids = torch.zeros(1, 2, dtype=torch.int64)
    body.eval()
    try:
        body({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    except FAILURES as error:
        raise StudentError(
            f"{blueprint.name} is no encoder that reads tokens alone: {first_line(error)}"
        ) from error
    body.train()


def _config(name: str, blueprint: Blueprint) -> Any:
    """Load a folder's config, or take a family's with small sizes; options go over either."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    tokens = {"vocab_size": blueprint.vocabulary, "pad_token_id": blueprint.padding_id}
    if (Path(name) / "config.json").is_file():
        return AutoConfig.from_pretrained(name, **(tokens | blueprint.options))
    if name not in CONFIG_MAPPING_NAMES:
        raise UnknownStudentError(
            f"no transformers encoder named {name!r}, nor a folder with a config.json"
            f"{nearest(name, CONFIG_MAPPING_NAMES)[:200]}"
        )
    return AutoConfig.for_model(name, **(SMALL | tokens | blueprint.options))
