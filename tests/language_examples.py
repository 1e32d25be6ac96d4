"""A Llama of a few numbers, and rows of tokens that it said itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

VOCABULARY, TOKENS = 32, 12
ROWS = {"train": 24, "validation": 8, "test": 10}


def llama_folder(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Save one of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
        "tie_word_embeddings": True, "initializer_range": 0.4,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**(settings | changes)))
    model.save_pretrained(folder)
    return folder


def said_by(folder: Path, rows: int, *, seed: int) -> list[list[int]]:
    """Rows of tokens drawn from the model, at temperature 1."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder).eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        tokens = torch.randint(VOCABULARY, (rows, 1))
        while tokens.shape[1] < TOKENS:
            chances = model(tokens).logits[:, -1].softmax(dim=-1)
            tokens = torch.cat([tokens, torch.multinomial(chances, 1)], dim=1)
    found: list[list[int]] = tokens.tolist()
    return found


def write_ids(folder: Path, rows: Mapping[str, Sequence[list[int] | None]]) -> str:
    """Parquet files of a column ``input_ids``, one a split; how the command line names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, ids in rows.items():
        pq.write_table(pa.table({"input_ids": ids}), folder / f"said-{split}.parquet")
    return f"parquet:{folder}/said-*.parquet"


def corpus(folder: Path, model: Path) -> str:
    """What the model says, in three splits."""
    rows = {split: said_by(model, n, seed=at) for at, (split, n) in enumerate(ROWS.items())}
    return write_ids(folder, rows)
