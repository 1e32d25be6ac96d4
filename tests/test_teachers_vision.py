"""Image teachers: ResNet-50, ViT and their kin, by architecture with random weights."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from teachers import NetworkTeacher, TeacherError, UnknownTeacherError, load_teacher


def images(count: int, *, side: int = 40, seed: int = 0) -> list[Image.Image]:
    noise = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def random_teacher(name: str, **settings: Any) -> NetworkTeacher:
    teacher = load_teacher(name, weights="random", **settings)
    assert isinstance(teacher, NetworkTeacher)
    return teacher


@pytest.fixture(scope="module")
def resnet50() -> NetworkTeacher:
    return random_teacher("timm/resnet50", image_size=32)


@pytest.fixture(scope="module")
def resnet18() -> NetworkTeacher:
    return random_teacher("torchvision/resnet18", image_size=32)


@pytest.fixture(scope="module")
def vit() -> NetworkTeacher:
    return random_teacher("timm/vit_tiny_patch16_224", image_size=32)


def check_equal_rows(teacher: NetworkTeacher, inputs: list[Any], tolerance: float = 1e-5) -> None:
    """Rows of each input alone, in threes, sevens and all at once differ by rounding only."""
    whole = teacher.embed(teacher.prepare(inputs)).features
    largest = np.abs(whole).max(axis=1, keepdims=True)
    assert largest.min() > 0
    assert np.abs(whole[0] - whole[1]).max() > 100 * tolerance * largest.max()
    for size in (1, 3, 7):
        parts = [inputs[i : i + size] for i in range(0, len(inputs), size)]
        rows = np.concatenate([teacher.embed(teacher.prepare(part)).features for part in parts])
        assert (np.abs(rows - whole) / largest).max() <= tolerance


@pytest.mark.parametrize(("fixture", "dim"), [("resnet50", 2048), ("resnet18", 512), ("vit", 192)])
def test_the_row_of_an_image_is_the_same_in_every_batch(
    fixture: str, dim: int, request: pytest.FixtureRequest
) -> None:
    teacher = request.getfixturevalue(fixture)
    assert teacher.card.dim == dim
    assert teacher.card.modality == "image"
    check_equal_rows(teacher, images(8))


class _BatchNormed(nn.Module):
    """Batch statistics leak between rows: what a teacher must never do."""

    def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
        pixels = prepared["pixel_values"].mean(dim=(2, 3))
        return pixels - pixels.mean(dim=0)


def test_the_check_of_equal_rows_can_fail(vit: NetworkTeacher) -> None:
    import dataclasses

    broken = dataclasses.replace(vit, module=_BatchNormed(), head=None)
    with pytest.raises(AssertionError):
        check_equal_rows(broken, images(8))


def test_a_frozen_teacher_never_moves_its_batch_norm_statistics(resnet18: NetworkTeacher) -> None:
    prepared = resnet18.prepare(images(6))
    state = copy.deepcopy(resnet18.module.state_dict())
    before = resnet18.embed(prepared).features
    resnet18.module.train()
    after = resnet18.embed(prepared).features
    np.testing.assert_array_equal(before, after)
    assert not any(module.training for module in resnet18.module.modules())
    for key, value in resnet18.module.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_one_layer_left_in_train_mode_is_found(resnet18: NetworkTeacher) -> None:
    prepared = resnet18.prepare(images(6))
    before = resnet18.embed(prepared).features
    next(m for m in resnet18.module.modules() if isinstance(m, nn.BatchNorm2d)).train()
    np.testing.assert_array_equal(resnet18.embed(prepared).features, before)


def test_the_features_are_those_of_the_network_without_its_classifier() -> None:
    """Against timm used by hand: same seed, same config, its own transform."""
    import timm

    teacher = random_teacher("timm/resnet18", image_size=64, seed=3)
    torch.manual_seed(3)
    network = timm.create_model("resnet18").eval()
    config = timm.data.resolve_data_config({"img_size": 64}, model=network)
    transform = timm.data.create_transform(**config, is_training=False)
    inputs = images(3)
    with torch.inference_mode():
        pixels = torch.stack([transform(image) for image in inputs])
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True)
    found = teacher.embed(teacher.prepare(inputs)).features
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_torchvision_inputs_are_prepared_as_its_weights_say() -> None:
    from torchvision.models import ResNet18_Weights

    teacher = random_teacher("torchvision/resnet18")
    inputs = [images(1, side=300)[0], images(1, side=90)[0].resize((70, 410))]
    transform = ResNet18_Weights.DEFAULT.transforms()
    expected = torch.stack([transform(image) for image in inputs])
    assert torch.equal(teacher.prepare(inputs)["pixel_values"], expected)
    assert teacher.card.preprocessing["image_size"] == 224


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_timm_inputs_are_prepared_as_its_own_transform_would(crop_mode: str) -> None:
    import timm

    own = {"crop_mode": crop_mode, "crop_pct": 0.8, "mean": (0.1, 0.2, 0.3)}
    teacher = random_teacher("timm/resnet10t", image_size=48, preprocessing=own)
    config = timm.data.resolve_data_config(
        {"img_size": 48, **own},
        model=None,
        pretrained_cfg={"interpolation": teacher.card.preprocessing["interpolation"]},
    )
    transform = timm.data.create_transform(**config, is_training=False)
    inputs = [images(1, side=60)[0], images(1, side=90)[0].resize((70, 120))]
    expected = torch.stack([transform(image) for image in inputs])
    assert torch.equal(teacher.prepare(inputs)["pixel_values"], expected)


def test_the_module_can_be_fine_tuned(resnet18: NetworkTeacher) -> None:
    module = copy.deepcopy(resnet18.module).train()
    features = module(resnet18.prepare(images(4)))
    features.square().sum().backward()
    gradients = [p.grad for p in module.parameters()]
    assert features.shape == (4, 512)
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


def test_random_weights_are_a_function_of_the_seed_and_touch_no_global_state() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        random_teacher("timm/resnet10t", image_size=32, seed=seed).card.weights
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first.startswith("sha256:")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_inner_layer_is_tapped_and_pooled_over_space() -> None:
    teacher = random_teacher("timm/resnet18", image_size=64, layer="layer2")
    prepared = teacher.prepare(images(2))
    seen: list[torch.Tensor] = []
    network: Any = teacher.module.network
    handle = network.layer2.register_forward_hook(lambda _m, _i, output: seen.append(output))
    found = teacher.embed(prepared).features
    handle.remove()
    assert seen[0].shape == (2, 128, 8, 8)
    np.testing.assert_allclose(found, seen[0].mean(dim=(2, 3)).numpy(), rtol=1e-5, atol=1e-6)
    assert teacher.card.notes == ("layer layer2: mean over space, axes (2, 3) of (128, 8, 8)",)


def test_channels_last_maps_are_pooled_over_space_too() -> None:
    teacher = random_teacher("torchvision/swin_t", image_size=64, layer="features.1")
    assert teacher.card.dim == 96
    assert "axes (1, 2) of (16, 16, 96)" in teacher.card.notes[0]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_tokens_of_an_inner_layer_are_pooled_without_the_class_token(pooling: str) -> None:
    teacher = random_teacher(
        "timm/vit_tiny_patch16_224", image_size=32, layer="blocks.3", pooling=pooling
    )
    prepared = teacher.prepare(images(2))
    network: Any = teacher.module.network
    seen: list[torch.Tensor] = []
    handle = network.blocks[3].register_forward_hook(lambda _m, _i, output: seen.append(output))
    found = teacher.embed(prepared).features
    handle.remove()
    expected = seen[0][:, 0] if pooling == "cls" else seen[0][:, 1:].mean(dim=1)
    assert seen[0].shape == (2, 5, 192)  # one class token, four patches
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_copies_of_a_tapped_module_do_not_share_what_they_tap() -> None:
    teacher = random_teacher("timm/resnet10t", image_size=32, layer="layer1")
    prepared = teacher.prepare(images(2))
    other = copy.deepcopy(teacher.module)
    for parameter in other.parameters():
        parameter.data.zero_()
    before = teacher.embed(prepared).features
    with torch.inference_mode():
        assert float(other(prepared).abs().max()) == 0
    np.testing.assert_array_equal(teacher.embed(prepared).features, before)


FAMILIES = {
    "alexnet": 4096,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "mnasnet0_5": 1280,
    "mobilenet_v3_small": 1024,
    "regnet_y_400mf": 440,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "vgg11": 4096,
    "vit_b_32": 768,
    "convnext_tiny": 768,
}
QUICK = {"googlenet", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "regnet_y_400mf"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in FAMILIES]
)
def test_every_family_of_torchvision_gives_its_penultimate_feature(name: str) -> None:
    size = 96 if name in {"alexnet", "inception_v3"} else 64
    teacher = random_teacher(f"torchvision/{name}", image_size=size)
    assert teacher.card.dim == FAMILIES[name]
    assert teacher.embed(teacher.prepare(images(3))).features.shape == (3, FAMILIES[name])


# What names call a small network, the smallest first; the rest are built as they come.
SMALL = ("atto", "femto", "pico", "nano", "xxs", "xxtiny", "xs", "zepto", "tiny", "_t", "s0")
SMALLISH = ("small", "_s", "mini", "18", "_b0", "_100", "26", "19", "50")


def smallest(names: list[str]) -> str:
    """The network of a module whose name promises the least work."""
    words = (*SMALL, *SMALLISH)
    return min(names, key=lambda name: next((i for i, w in enumerate(words) if w in name), 99))


@pytest.mark.slow
def test_one_network_of_every_module_of_timm_gives_rows() -> None:
    """With random weights, one image; networks on other inputs may refuse."""
    import timm

    refused, done = {}, 0
    for module in timm.models.list_modules():
        names = [n for n in timm.models.list_models(module=module) if not n.startswith("test_")]
        if not names:
            continue
        name = smallest(names)
        try:
            teacher = random_teacher(f"timm/{name}")
        except TeacherError as error:
            refused[name] = str(error)
            continue
        assert teacher.embed(teacher.prepare(images(1))).features.shape == (1, teacher.card.dim)
        done += 1
    assert done > 80
    assert len(refused) <= 2, refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet5", "no teacher named 'timm/resnet5'; did you mean 'timm/resnet50'?"),
        ("timm/resnet50.a1_in2k", "did you mean 'timm/resnet50.a1_in1k'?"),
        ("torchvision/resnet81", "did you mean 'torchvision/resnet18'?"),
        ("resnet50", "no teacher named 'resnet50'; did you mean 'timm/resnet50'?"),
        ("tim/resnet50", "no teacher named 'tim/resnet50'; did you mean 'timm'?"),
        ("nowhere.to.be:found", "no teacher named 'nowhere.to.be:found'"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UnknownTeacherError) as caught:
        load_teacher(name, weights="random")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "layer9"}, "the teacher has no layer 'layer9'; did you mean 'layer"),
        ({"options": {"pad": "same"}}, "timm/resnet10t cannot be built with pad='same'"),
        ({"options": {"act_layer": "x"}}, "timm/resnet10t cannot be built with act_layer='x'"),
        ({"options": {"num_classes": 3}}, "option 'num_classes' is set by the tool"),
        ({"preprocessing": {"men": 0.5}}, "'men' is not a setting of this teacher's prepro"),
        ({"preprocessing": {"std": 0}}, "std must be one number or three above 0, got 0"),
        ({"preprocessing": {"crop_pct": 2}}, "crop_pct must be in (0, 1], got 2"),
        ({"preprocessing": {"interpolation": "x"}}, "interpolation must be one of nearest"),
        ({"pooling": "max"}, "no pooling named 'max'; known: mean, cls, pooler"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(TeacherError) as caught:
        load_teacher("timm/resnet10t", weights="random", image_size=32, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 30}, "cannot be built with image_size=30: Input shape indivisible"),
        (
            {"preprocessing": {"resize_size": "x"}},
            "resize_size must be a number of pixels, got 'x'",
        ),
    ],
)
def test_what_torchvision_cannot_do_is_told_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(TeacherError) as caught:
        load_teacher("torchvision/vit_b_16", weights="random", **settings)
    assert message in str(caught.value)


def test_preprocessing_can_be_overridden_and_is_recorded() -> None:
    plain = random_teacher("timm/resnet10t", image_size=32)
    other = random_teacher(
        "timm/resnet10t", image_size=32, preprocessing={"mean": 0.5, "std": [0.5, 0.5, 0.5]}
    )
    white = [Image.new("RGB", (32, 32), (255, 255, 255))]
    assert other.card.preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert torch.equal(other.prepare(white)["pixel_values"], torch.ones(1, 3, 32, 32))
    assert plain.card.preprocessing != other.card.preprocessing


def test_what_is_no_image_is_refused(vit: NetworkTeacher) -> None:
    with pytest.raises(TeacherError, match="an image teacher reads images, input 1 is str"):
        vit.prepare([*images(1), "a text"])


def test_a_prepare_can_be_sent_to_another_process(
    vit: NetworkTeacher, resnet18: NetworkTeacher
) -> None:
    inputs = images(2)
    for teacher in (vit, resnet18):
        there = pickle.loads(pickle.dumps(teacher.prepare))
        assert torch.equal(there(inputs)["pixel_values"], teacher.prepare(inputs)["pixel_values"])


def test_images_are_not_opened_to_measure_their_length(vit: NetworkTeacher) -> None:
    class Closed(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            raise AssertionError("opened")

    assert vit.lengths(Closed([1, 2, 3])) == [1, 1, 1]
