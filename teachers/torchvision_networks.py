"""Classification networks of torchvision. All that is known of its names and weights is here."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from teachers.backbone import Built, Request
from teachers.errors import TeacherError, UnknownTeacherError, WeightsError, nearest, one_line
from teachers.heads import agrees
from teachers.hub import check_torch_hub, fetching
from teachers.images import PrepareFrames, check_preprocessing, read_pixels
from teachers.pooling import Pooling
from teachers.weights import State, load_state, read_state

PREPROCESSING = ("mean", "std", "crop_pct", "interpolation", "resize_size")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # training-time classifiers of the Inceptions


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Torchvision's classification preset: resize the short side, crop the centre, normalise."""

    resize_size: int
    crop_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    def __call__(self, image: Image.Image) -> Image.Image:
        """One image to (crop, crop); normalising is left to the batch."""
        from torchvision.transforms import InterpolationMode, functional

        mode = InterpolationMode(self.interpolation)
        resized = functional.resize(image, [self.resize_size], interpolation=mode, antialias=True)
        cropped: Image.Image = functional.center_crop(resized, [self.crop_size])
        return cropped


def prepare_from(preset: Preset) -> PrepareFrames:
    """Images to a batch by a preset."""
    return PrepareFrames(preset, preset.mean, preset.std)


def build(request: Request) -> Built:
    """A torchvision network with its last classifier replaced by identity."""
    from torchvision import models

    names = models.list_models(module=models)
    if request.name not in names:
        hint = nearest(request.name, names, prefix="torchvision/")
        raise UnknownTeacherError(f"no teacher named {'torchvision/' + request.name!r}{hint}")
    record = models.get_model_weights(request.name).DEFAULT
    preset = _preset(record, request)
    options = _options(request, preset.crop_size)
    network = _network(request, options)
    head, note = _split(network, preset.crop_size, trained=request.weights != "random")
    known = tuple(record.meta["categories"])
    return Built(
        network=network,
        modality="image",
        prepare=prepare_from(preset),
        preprocessing={
            **vars(preset),
            "image_size": preset.crop_size,
            "made_by": "torchvision",
        },
        call=read_pixels,
        pooling=Pooling(kind=request.pooling, prefix=int(hasattr(network, "class_token"))),
        head=head,
        labels=known if head is not None and head.out_features == len(known) else (),
        notes=(note,) if note else (),
    )


def _preset(record: Any, request: Request) -> Preset:
    """The weights' own preset at the image size asked for, with the overrides."""
    own = record.transforms()
    changes = check_preprocessing(request.preprocessing, PREPROCESSING)
    crop = request.image_size or own.crop_size[0]
    resize = round(crop * own.resize_size[0] / own.crop_size[0])
    if "crop_pct" in changes:
        resize = int(crop / changes.pop("crop_pct"))
    settings = {
        "resize_size": resize,
        "crop_size": crop,
        "mean": tuple(own.mean),
        "std": tuple(own.std),
        "interpolation": own.interpolation.value,
    }
    return Preset(**{**settings, **changes})


def _options(request: Request, size: int) -> dict[str, Any]:
    options = dict(request.options)
    for key in ("num_classes", "weights", "weights_backbone"):
        if key in options:
            raise TeacherError(f"teacher option {key!r} is set by the tool; leave it out")
    if request.name.startswith("vit_"):
        options.setdefault("image_size", size)
    if request.name.startswith("maxvit_"):
        options.setdefault("input_size", (size, size))
    return options


def _network(request: Request, options: dict[str, Any]) -> nn.Module:
    if request.weights == "random":
        return _create(request.name, options)
    if request.weights == "pretrained":
        return _pretrained(request, options)
    state = {
        key: value
        for key, value in read_state(Path(request.weights)).items()
        if not key.startswith(AUXILIARY)
    }
    classes = _classes(request, options, state)
    network = _create(request.name, {**options, "num_classes": classes})
    load_state(network, state, source=request.weights)
    return network


def _pretrained(request: Request, options: dict[str, Any]) -> nn.Module:
    """Torchvision's best weights, by its own loader, after a look that runs nothing in the file."""
    from torchvision import models

    name = f"torchvision/{request.name}"
    record = models.get_model_weights(request.name).DEFAULT
    check_torch_hub(name, record.url)
    size = record.transforms().crop_size[0]
    if request.name.startswith(("vit_", "maxvit_")) and request.image_size not in {0, size}:
        raise TeacherError(f"the weights of {name} are for {size} px only; leave --image-size out")
    with fetching(name):
        # the builder would unpickle without weights_only: what needs more is refused here first
        record.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return _create(request.name, options, weights=record, progress=False)


def _create(name: str, options: Mapping[str, Any], **more: Any) -> nn.Module:
    from torchvision import models

    builder = models.get_model_builder(name)
    extra: dict[str, Any] = {}
    if name in {"googlenet", "inception_v3"}:
        extra = {"aux_logits": False}
        if "weights" not in more:
            extra["init_weights"] = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "init_weights is slow" and the like
            network: nn.Module = builder(**{**extra, **options}, **more)
    except (TypeError, AssertionError, ValueError, NotImplementedError) as error:
        told = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "no options"
        reason = one_line(error)
        raise TeacherError(f"torchvision/{name} cannot be built with {told}: {reason}") from error
    return network


def _classifier(network: nn.Module) -> str:
    """Where the last linear (SqueezeNet: convolutional) layer is."""
    kinds = (nn.Linear, nn.Conv2d)
    named: list[str] = [
        name for name, module in network.named_modules() if isinstance(module, kinds)
    ]
    return named[-1]


def _classes(request: Request, options: dict[str, Any], state: State) -> int:
    """Rows of the file's classifier."""
    with torch.device("meta"), warnings.catch_warnings():
        name = _classifier(_create(request.name, options))
    weight = state.get(f"{name}.weight")
    if weight is None:
        raise WeightsError(
            f"{request.weights} does not fit torchvision/{request.name}: it has no {name}.weight"
        )
    return int(weight.shape[0])


def _split(network: nn.Module, size: int, *, trained: bool) -> tuple[nn.Linear | None, str]:
    """Put identity in the classifier's place; it is the head if it is linear in the feature."""
    name = _classifier(network)
    classifier = network.get_submodule(name)
    network.eval()
    probe = torch.randn((2, 3, size, size), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = network(probe) if trained else torch.empty(0)
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, nn.Identity())
        if not trained:
            return None, ""
        if isinstance(classifier, nn.Linear) and agrees(classifier, network(probe), logits):
            return classifier, ""
    return None, "the teacher's own head was dropped: it is not linear in the feature"
