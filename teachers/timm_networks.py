"""Image networks of timm. All that is known of timm's names, configs and classifiers is here."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from teachers.backbone import Built, Request
from teachers.base import Prepare
from teachers.errors import TeacherError, UnknownTeacherError, WeightsError, nearest, one_line
from teachers.heads import agrees
from teachers.hub import fetching
from teachers.images import PrepareFrames, PrepareImages, check_preprocessing, read_pixels
from teachers.pooling import Pooling
from teachers.weights import State, misfit, read_state

PREPROCESSING = ("mean", "std", "crop_pct", "crop_mode", "interpolation")
CONFIG = ("input_size", *PREPROCESSING)  # what timm's transform is made from


def build(request: Request) -> Built:
    """A timm network without its classifier, which becomes the head where it is linear."""
    config = _config(request.name)
    options = _options(request, config)
    network: Any = _network(request, config, options)
    preprocessing = _preprocessing(network, request)
    head, note = (None, "") if request.weights == "random" else _split(network, preprocessing)
    if request.weights == "random":
        network.reset_classifier(0)
    size = preprocessing["input_size"]
    return Built(
        network=network,
        modality="image",
        prepare=prepare_from(preprocessing),
        preprocessing={**preprocessing, "image_size": size[-1], "made_by": "timm"},
        call=read_pixels,
        pooling=Pooling(
            kind=request.pooling,
            prefix=int(getattr(network, "num_prefix_tokens", 0)),
            channels_last=getattr(network, "output_fmt", "NCHW") == "NHWC",
        ),
        head=head,
        labels=_labels(head, config),
        notes=(note,) if note else (),
    )


def _config(name: str) -> dict[str, Any]:
    """Timm's own record of the network and its weights; ``UnknownTeacherError`` without one."""
    import timm
    from timm.models import get_pretrained_cfg, list_pretrained

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = nearest(architecture, timm.list_models(), prefix="timm/")
        raise UnknownTeacherError(f"no teacher named {'timm/' + name!r}{hint}")
    tagged = [known for known in list_pretrained(architecture) if "." in known]
    if tag and name not in tagged:
        known = ", ".join(n.partition(".")[2] for n in tagged[:6]) or "none"
        hint = nearest(name, tagged, prefix="timm/") or f"; weights of {architecture}: {known}"
        raise UnknownTeacherError(f"no teacher named {'timm/' + name!r}{hint}")
    config = get_pretrained_cfg(name)
    return {} if config is None else dict(config.to_dict())


def _options(request: Request, config: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments; networks of fixed input size are told the size asked for."""
    options = dict(request.options)
    for key in ("num_classes", "in_chans", "pretrained", "checkpoint_path"):
        if key in options:
            raise TeacherError(f"teacher option {key!r} is set by the tool; leave it out")
    if request.image_size and config.get("fixed_input_size"):
        options.setdefault("img_size", request.image_size)
    return options


def _network(request: Request, config: Mapping[str, Any], options: dict[str, Any]) -> nn.Module:
    name = f"timm/{request.name}"
    if request.weights == "random":
        return _create(request.name, options)
    if request.weights != "pretrained":
        return _from_file(request, config, options)
    if not any(config.get(key) for key in ("url", "hf_hub_id", "file")):
        raise WeightsError(
            f"timm has no pretrained weights for {name}; give a file with --weights, "
            "or train from random weights with --random-init"
        )
    with fetching(name):
        return _create(request.name, options, pretrained=True)


def _create(name: str, options: Mapping[str, Any], **more: Any) -> nn.Module:
    """``timm.create_model``; what the constructor refuses becomes a ``TeacherError``."""
    import timm

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some families overwrite one another's names
            network: nn.Module = timm.create_model(name, **options, **more)
    except (TypeError, AssertionError, ValueError, LookupError, NotImplementedError) as error:
        told = ", ".join(f"{key}={value!r}" for key, value in options.items())
        reason = one_line(error) or type(error).__name__
        raise TeacherError(
            f"timm/{name} cannot be built with {told or 'no options'}: {reason}"
        ) from error
    return network


def _from_file(request: Request, config: Mapping[str, Any], options: dict[str, Any]) -> nn.Module:
    """Built for as many classes as the file's classifier has, then filled from the file.

    A file whose names are not the network's own goes through timm's converter for original
    checkpoints, which also resizes position embeddings to the image size.
    """
    state = read_state(Path(request.weights))
    classes = _classes(state, config)
    network = _create(request.name, {**options, "num_classes": classes})
    wrong = misfit(network, state)
    if not wrong:
        network.load_state_dict(state, strict=False)
        return network
    overlay = {"state_dict": dict(state), "num_classes": classes, "custom_load": False}
    try:
        return _create(
            request.name,
            {**options, "num_classes": classes},
            pretrained=True,
            pretrained_cfg_overlay=overlay,
        )
    except (RuntimeError, KeyError, TeacherError) as error:
        raise WeightsError(
            f"{request.weights} does not fit timm/{request.name}: {wrong}"
        ) from error


def _classes(state: State, config: Mapping[str, Any]) -> int:
    """Rows of the file's classifier; 0 for a file without one."""
    names = config.get("classifier") or ()
    for name in (names,) if isinstance(names, str) else names:
        weight = state.get(f"{name}.weight")
        if weight is not None:
            return int(weight.shape[0])
    return 0


def _preprocessing(network: nn.Module, request: Request) -> dict[str, Any]:
    """Timm's data config of these weights, with the image size and overrides asked for."""
    import timm

    config = dict(timm.data.resolve_data_config({}, model=network))
    config.update(check_preprocessing(request.preprocessing, PREPROCESSING))
    size = request.image_size or max(config["input_size"][1:])
    config["input_size"] = (3, size, size)
    return config


def prepare_from(config: Mapping[str, Any]) -> Prepare:
    """Timm's own transform; where it ends as nearly all do, scaling is done by the batch."""
    from timm.data import create_transform
    from torchvision.transforms import Compose, Normalize

    steps = create_transform(**config, is_training=False).transforms
    usual = type(steps[-2]).__name__ == "MaybeToTensor" and isinstance(steps[-1], Normalize)
    if not usual:
        return PrepareImages(Compose(steps))
    return PrepareFrames(Compose(steps[:-2]), tuple(config["mean"]), tuple(config["std"]))


def _split(network: Any, preprocessing: Mapping[str, Any]) -> tuple[nn.Linear | None, str]:
    """Take the classifier off; it is kept as the head if it is linear in the feature."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn((2, *preprocessing["input_size"]), generator=generator)
    classifier = network.get_classifier()
    network.eval()
    linear = isinstance(classifier, nn.Linear)
    with torch.inference_mode():
        logits = network(probe) if linear else torch.empty(0)
        network.reset_classifier(0)
        if linear and agrees(classifier, network(probe), logits):
            return classifier, ""
    if isinstance(classifier, nn.Identity):
        return None, ""
    return None, "the teacher's own head was dropped: it is not linear in the feature"


def _labels(head: nn.Linear | None, config: Mapping[str, Any]) -> tuple[str, ...]:
    """ImageNet's names where the head has as many classes; timm records no others."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if head is None:
        return ()
    if config.get("label_names"):
        return tuple(config["label_names"])
    subset = infer_imagenet_subset({"num_classes": head.out_features})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else ()
