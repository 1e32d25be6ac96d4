"""Encoders of transformers, for text and images. All that is known of that library is here.

A row is pooled from the last hidden state: ``mean`` over the tokens that are not padding,
``cls`` the first token, ``pooler`` the network's own pooled output.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors
from PIL import Image
from torch import nn

from teachers.backbone import Built, Request
from teachers.base import Prepare, Prepared
from teachers.errors import TeacherError, UnknownTeacherError, WeightsError, one_line
from teachers.heads import agrees
from teachers.hub import fetching
from teachers.pooling import Pooling
from teachers.text import PrepareTexts, describe_tokenizer
from teachers.weights import State, load_state, read_state

# what transformers raises for values that cannot be; newer versions check the config's by the hub's
REFUSALS: tuple[type[Exception], ...] = (
    ValueError,
    KeyError,
    RuntimeError,
    ImportError,
    TypeError,
    AttributeError,
    getattr(errors, "StrictDataclassError", ValueError),
)
PREFIX = ("cls_token", "distillation_token", "register_tokens")  # parameters (1, tokens, dim)


@dataclass(frozen=True)
class ReadHidden:
    """How encoders are called: the last hidden state, or the pooled output."""

    pooled: bool

    def __call__(self, network: nn.Module, prepared: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(rows, tokens, dim), or (rows, dim) if pooled."""
        output = network(**prepared)
        hidden: torch.Tensor = output.pooler_output if self.pooled else output.last_hidden_state
        return hidden.flatten(1) if self.pooled else hidden


@dataclass(frozen=True)
class PrepareProcessed:
    """Images through the network's own image processor."""

    processor: Any

    def __call__(self, inputs: Sequence[Image.Image]) -> Prepared:
        """Prepare one batch: ``pixel_values`` (rows, 3, h, w)."""
        images = [image.convert("RGB") for image in inputs]
        return {"pixel_values": self.processor(images=images, return_tensors="pt")["pixel_values"]}


def build(request: Request) -> Built:
    """An encoder with its tokenizer or image processor."""
    name = f"hf/{request.name}"
    with quiet(), fetching(name), told(name):
        config = _config(request)
        image = _reads_images(config)
        network, head = _network(request, config)
        if image:
            _check_reads_pixels(name, network)
        prepare, preprocessing, notes = (
            _image_side(request) if image else _text_side(request, config, network)
        )
    pooled = request.pooling == "pooler" and not request.layer
    return Built(
        network=network,
        modality="image" if image else "text",
        prepare=prepare,
        preprocessing=preprocessing,
        call=ReadHidden(pooled),
        pooling=Pooling(kind=request.pooling, prefix=_prefix(network) if image else 0),
        head=head,
        labels=_labels(config) if head is not None else (),
        notes=notes,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's load reports and bars; what matters of them is an error here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def told(name: str) -> Iterator[None]:
    """What transformers refuses, as one line."""
    import pickle

    try:
        yield
    except (TeacherError, OSError):
        raise  # ours, or the hub's: told by ``fetching``
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"the weights of {name} are a pickle that holds more than tensors: not loaded, as "
            "that could run code; save them as .safetensors"
        ) from error
    except REFUSALS as error:
        raise TeacherError(f"transformers cannot build {name}: {one_line(error)}") from error


def _config(request: Request) -> Any:
    """The network's config, with the options over it."""
    from transformers import AutoConfig

    folder = Path(request.name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UnknownTeacherError(
            f"the folder {folder} holds no transformers network: no config.json"
        )
    if not folder.is_dir() and (folder.is_absolute() or request.name.startswith((".", "~"))):
        raise UnknownTeacherError(f"there is no folder {folder} to load a teacher from")
    config, unused = AutoConfig.from_pretrained(
        request.name, return_unused_kwargs=True, **dict(request.options)
    )
    if unused:
        raise TeacherError(f"hf/{request.name} has no option {sorted(unused)[0]!r}")
    return config


def _reads_images(config: Any) -> bool:
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    return type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING


def _check_reads_pixels(name: str, network: Any) -> None:
    """Refuse what tells classes of images in another form only, and is read here as it is."""
    if network.main_input_name != "pixel_values":
        raise TeacherError(
            f"{name} does not read images alone: it wants {network.main_input_name}; take the "
            "network of its images, from timm if there"
        )


def _prefix(network: nn.Module) -> int:
    """How many tokens stand before those of the patches: a row each of what is learned for them."""
    named = dict(network.named_parameters())
    return sum(p.shape[-2] for name, p in named.items() if name.endswith(PREFIX))


def _network(request: Request, config: Any) -> tuple[nn.Module, nn.Linear | None]:
    """The encoder in float32, without a pooler that nothing reads, and a head it may have."""
    from transformers import AutoModel

    keep_pooler = request.pooling == "pooler"
    head = None
    if request.weights == "random":
        network = AutoModel.from_config(config)
    elif request.weights == "pretrained" and keep_pooler and _classifies(config):
        network, head = _with_classifier(request, config)
    elif request.weights == "pretrained":
        network = _pretrained(request, config, keep_pooler=keep_pooler)
    else:
        network = AutoModel.from_config(config)
        if not keep_pooler:
            _drop_pooler(network)
        state = _stripped(read_state(Path(request.weights)), network)
        load_state(network, state, source=request.weights)
    if getattr(config, "is_encoder_decoder", False):
        network = network.get_encoder()
    if not keep_pooler:
        _drop_pooler(network)
    elif getattr(network, "pooler", None) is None and not request.layer:
        raise TeacherError(f"hf/{request.name} has no pooler; use pooling mean or cls")
    network.eval()
    return network.float(), head


def _drop_pooler(network: nn.Module) -> None:
    """A pooler that is not read would be random in many checkpoints, and in the digest."""
    if isinstance(getattr(network, "pooler", None), nn.Module):
        network.pooler = None  # type: ignore[assignment]


def precision() -> dict[str, torch.dtype]:
    """Ask for float32: transformers 5 loads what the file has. The argument has two names."""
    import transformers

    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return {"dtype" if (major, minor) >= (4, 56) else "torch_dtype": torch.float32}


def _pretrained(request: Request, config: Any, *, keep_pooler: bool) -> nn.Module:
    """The encoder with its weights; ``WeightsError`` when the file lacks some of them."""
    from transformers import AutoModel

    network: nn.Module
    network, info = AutoModel.from_pretrained(
        request.name, config=config, output_loading_info=True, **precision()
    )
    missing = sorted(info["missing_keys"])
    if not keep_pooler:
        missing = [key for key in missing if not key.startswith("pooler.")]
    if missing and all(key.startswith("pooler.") for key in missing):
        raise WeightsError(
            f"the weights of hf/{request.name} hold no pooler; use pooling mean or cls"
        )
    if missing or info.get("mismatched_keys"):
        named = ", ".join(str(key) for key in [*missing, *info.get("mismatched_keys", ())][:3])
        raise WeightsError(f"the weights of hf/{request.name} lack or do not fit {named}")
    return network


def _classifies(config: Any) -> bool:
    names = getattr(config, "architectures", None) or ()
    return any("SequenceClassification" in name for name in names)


def _with_classifier(request: Request, config: Any) -> tuple[nn.Module, nn.Linear | None]:
    """A sequence classifier's encoder, and its classifier if that reads the pooler's output."""
    from transformers import AutoModelForSequenceClassification

    whole, info = AutoModelForSequenceClassification.from_pretrained(
        request.name, config=config, output_loading_info=True, **precision()
    )
    network: nn.Module = whole.eval().base_model
    head = getattr(whole, "classifier", None)
    lacking = info["missing_keys"]  # would be random, and is refused where it is wanted
    if lacking or not isinstance(head, nn.Linear) or getattr(network, "pooler", None) is None:
        return _pretrained(request, config, keep_pooler=True), None
    probe = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    with torch.inference_mode():
        features, logits = network(probe).pooler_output, whole(probe).logits
    return network, head if agrees(head, features, logits) else None


def _stripped(state: State, network: nn.Module) -> State:
    """A whole model's state dict, down to the encoder's part."""
    prefix = f"{getattr(network, 'base_model_prefix', '')}."
    if any(key.startswith(prefix) for key in state):
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    wanted = network.state_dict()
    return {k: v for k, v in state.items() if k in wanted or not k.startswith("pooler.")}


def _labels(config: Any) -> tuple[str, ...]:
    """Class names of the config; ``LABEL_0`` is none."""
    names = [str(name) for _, name in sorted(config.id2label.items())]
    return () if all(name.startswith("LABEL_") for name in names) else tuple(names)


def _text_side(
    request: Request, config: Any, network: nn.Module
) -> tuple[Prepare, dict[str, Any], tuple[str, ...]]:
    """Tokenizer of the same name, cut to what the network's positions allow."""
    from transformers import AutoTokenizer

    if request.preprocessing:
        raise TeacherError("a text teacher takes no preprocessing settings; use --max-length")
    tokenizer = AutoTokenizer.from_pretrained(request.name)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    length = min(request.max_length, tokenizer.model_max_length, _positions(config, network))
    notes: tuple[str, ...] = ()
    if length < request.max_length:
        notes = (f"texts are cut at {length} tokens: the teacher reads no more",)
    record = {**describe_tokenizer(tokenizer), "max_length": length, "made_by": "transformers"}
    return PrepareTexts(tokenizer, length), record, notes


def _positions(config: Any, network: nn.Module) -> int:
    """How many tokens the network has positions for; RoBERTa's begin after its padding index."""
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            taken = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - taken
    most = getattr(config, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else 1_000_000


def _image_side(request: Request) -> tuple[Prepare, dict[str, Any], tuple[str, ...]]:
    """Image processor of the same name, with the overrides."""
    import json

    from transformers import AutoImageProcessor

    if request.image_size:
        raise TeacherError(
            f"hf/{request.name} reads images of its own size; leave --image-size out, "
            "or take the network from timm"
        )
    processor = AutoImageProcessor.from_pretrained(request.name)
    settings = processor.to_dict()
    for key, value in request.preprocessing.items():
        if key not in settings:
            raise TeacherError(f"the image processor of hf/{request.name} has no setting {key!r}")
        setattr(processor, key, value)
    record = json.loads(json.dumps(processor.to_dict(), default=str, sort_keys=True))
    return PrepareProcessed(processor), {**record, "made_by": "transformers"}, ()
