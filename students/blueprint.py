"""All that fixes a student network's shape, as frozen data that goes to JSON."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """All that fixes a network's shape; goes to JSON with ``dataclasses.asdict``."""

    name: str
    dim_out: int  # 0: the network's own pooled width, without a neck
    modality: str  # "image" or "text"
    options: dict[str, Any] = field(default_factory=dict)
    in_chans: int = 3
    image_size: int = 0  # 0: the network's own
    vocabulary: int = 0  # tokens the teacher's tokenizer knows; text only
    padding_id: int = 0
