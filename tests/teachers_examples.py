"""Small teachers for tests: a timm network, and tiny transformers folders of a few words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn

from teachers import NetworkTeacher, load_teacher

TEXT = "a an the cat dog bird sat ran flew on over under mat moon tree and then it was not"
WORDS = TEXT.split()


def tokenizer(words: Sequence[str] = WORDS) -> Any:
    """WordPiece over a few words, with BERT's template for pairs."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    backend = Tokenizer(WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def bert_config(**changes: Any) -> Any:
    """A BERT of 16 numbers a token."""
    from transformers import BertConfig

    settings = {
        "vocab_size": 4 + len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
    }
    return BertConfig(**{**settings, **changes})


def bert_folder(folder: Path, *, kind: str = "BertModel", seed: int = 0, **changes: Any) -> Path:
    """Save a tiny BERT of that class, with its tokenizer."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(transformers, kind)(bert_config(**changes))
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


NAME = "timm/resnet10t"


def images(count: int = 2) -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def small(weights: str | Path = "random", name: str = NAME, **settings: Any) -> NetworkTeacher:
    teacher = load_teacher(name, weights=str(weights), **{"image_size": 32, **settings})
    assert isinstance(teacher, NetworkTeacher)
    return teacher


def network(classes: int = 5, seed: int = 1, name: str = "resnet10t") -> nn.Module:

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: nn.Module = timm.create_model(name, num_classes=classes).eval()
    return made
