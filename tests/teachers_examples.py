"""Tiny transformers folders for tests: a tokenizer of a few words, networks of a few numbers."""

from pathlib import Path
from typing import Any

TEXT = "a an the cat dog bird sat ran flew on over under mat moon tree and then it was not"
WORDS = TEXT.split()


def tokenizer() -> Any:
    """WordPiece over a few words, with BERT's template for pairs."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
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
