"""A blueprint that can be built elsewhere: a config that lay in a folder is written into it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from students.blueprint import Blueprint
from students.text import SMALL

# what a config's folder says of itself, not of the network
ABOUT = (
    "_name_or_path", "architectures", "dtype", "torch_dtype", "model_type", "transformers_version",
)  # fmt: skip


def portable(blueprint: Blueprint) -> Blueprint:
    """Give the same network by another name: ``hf/<folder>`` by its model type and options."""
    family, _, folder = blueprint.name.partition("/")
    if family != "hf" or not (Path(folder) / "config.json").is_file():
        return blueprint
    from transformers import AutoConfig

    tokens = {"vocab_size": blueprint.vocabulary, "pad_token_id": blueprint.padding_id}
    config: Any = AutoConfig.from_pretrained(folder, **(tokens | blueprint.options))
    options = {name: value for name, value in config.to_dict().items() if name not in ABOUT}
    # sizes by the names that every family maps to its own: those are what defaults are given for
    options |= {name: getattr(config, name) for name in SMALL if hasattr(config, name)}
    return replace(blueprint, name=f"hf/{config.model_type}", options=options)
