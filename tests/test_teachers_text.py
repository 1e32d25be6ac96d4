"""Text teachers: tiny transformers networks from local folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from teachers import NetworkTeacher, TeacherError, UnknownTeacherError, WeightsError, load_teacher
from tests.teachers_examples import WORDS, bert_config, bert_folder, tokenizer

RAGGED = [
    "a cat",
    "the dog ran over the moon and then it sat under the tree",
    "bird",
    "the bird flew",
    "",
    "the cat sat on the mat and the dog was not on it",
    "it was not a dog",
    "moon",
]


def text_teacher(folder: Path, **settings: Any) -> NetworkTeacher:
    teacher = load_teacher(f"hf/{folder}", **settings)
    assert isinstance(teacher, NetworkTeacher)
    return teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert"))


def by_hand(folder: Path, texts: list[str], pooling: str) -> np.ndarray:
    """One text at a time, without padding, with plain transformers."""
    from transformers import AutoModel, AutoTokenizer

    network = AutoModel.from_pretrained(folder).float().eval()
    words = AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.inference_mode():
        for text in texts:
            out = network(**words(text, return_tensors="pt"))
            hidden = out.last_hidden_state[0]
            row = {"mean": hidden.mean(dim=0), "cls": hidden[0], "pooler": out.pooler_output[0]}
            rows.append(row[pooling].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_ragged_batches_give_the_rows_of_each_text_alone(folder: Path, pooling: str) -> None:
    teacher = text_teacher(folder, pooling=pooling)
    found = teacher.embed(teacher.prepare(RAGGED)).features
    expected = by_hand(folder, RAGGED, pooling)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert found.shape == (8, 16)
    assert (np.abs(found - expected) / largest).max() <= 1e-5
    for size in (1, 3, 7):
        parts = [RAGGED[i : i + size] for i in range(0, len(RAGGED), size)]
        rows = np.concatenate([teacher.embed(teacher.prepare(part)).features for part in parts])
        assert (np.abs(rows - found) / largest).max() <= 1e-5


def test_poolings_differ(folder: Path) -> None:
    rows = [
        text_teacher(folder, pooling=p).embed(text_teacher(folder).prepare(RAGGED)).features
        for p in ("mean", "cls", "pooler")
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(rows[a] - rows[b]).max() > 0.01


def test_pairs_are_read_as_pairs(folder: Path) -> None:
    teacher = text_teacher(folder)
    prepared = teacher.prepare([("a cat", "the dog ran"), ("moon", "a")])
    assert prepared["input_ids"].tolist()[1] == [2, *_ids("moon"), 3, *_ids("a"), 3, 0, 0, 0]
    assert prepared["token_type_ids"].tolist()[0] == [0, 0, 0, 0, 1, 1, 1, 1]
    swapped = teacher.prepare([("the dog ran", "a cat")])
    assert not torch.equal(prepared["input_ids"][0], swapped["input_ids"][0])
    rows = teacher.embed(prepared).features
    assert np.abs(rows[0] - teacher.embed(swapped).features[0]).max() > 1e-3
    assert teacher.lengths([("a cat", "the dog ran"), "moon"]) == [16, 4]


def _ids(text: str) -> list[int]:
    return [4 + WORDS.index(word) for word in text.split()]


def test_texts_are_cut_at_what_the_network_can_read(folder: Path) -> None:
    teacher = text_teacher(folder, max_length=500)
    assert teacher.card.notes == ("texts are cut at 32 tokens: the teacher reads no more",)
    assert teacher.card.preprocessing["max_length"] == 32
    prepared = teacher.prepare(["the cat " * 100])
    assert prepared["input_ids"].shape == (1, 32)
    assert teacher.embed(prepared).features.shape == (1, 16)
    short = text_teacher(folder, max_length=5)
    assert short.prepare(["the cat " * 100])["input_ids"].shape == (1, 5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["a", 3], "input 1 is int"),
        ([("a", "b", "c")], "input 0 is tuple"),
        ([None], "input 0 is NoneType"),
        (["a", ("b", "c")], "a batch holds single texts or pairs, not both"),
    ],
)
def test_what_is_no_text_is_refused(folder: Path, inputs: list[Any], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        text_teacher(folder).prepare(inputs)


def test_weights_are_computed_in_float32_whatever_the_file_holds(tmp_path: Path) -> None:
    from transformers import BertModel

    BertModel(bert_config()).to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    teacher = text_teacher(tmp_path)
    assert {p.dtype for p in teacher.module.parameters()} == {torch.float32}


def test_an_inner_layer_of_an_encoder_is_tapped_under_the_mask(folder: Path) -> None:
    from transformers import AutoModel

    teacher = text_teacher(folder, layer="encoder.layer.0")
    prepared = teacher.prepare(["a cat", "the dog ran over the moon"])
    with torch.inference_mode():
        out = AutoModel.from_pretrained(folder).eval()(**prepared, output_hidden_states=True)
    hidden = out.hidden_states[1]
    expected = torch.stack([hidden[0, :4].mean(dim=0), hidden[1, :8].mean(dim=0)])
    np.testing.assert_allclose(teacher.embed(prepared).features, expected.numpy(), atol=1e-5)


def test_empty_texts_alone_give_the_rows_that_they_give_among_others(tmp_path: Path) -> None:
    """A tokenizer without marks of begin and end makes no token of them, as GPT's does."""
    bert_folder(tmp_path)
    words = tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1")
    words.save_pretrained(tmp_path)
    teacher = text_teacher(tmp_path)
    alone = teacher.prepare(["", ""])
    assert {tuple(tensor.shape) for tensor in alone.values()} == {(2, 1)}
    assert all(tensor.dtype == torch.int64 for tensor in alone.values())
    found = teacher.embed(alone).features
    among = teacher.embed(teacher.prepare(["a cat", ""])).features
    np.testing.assert_allclose(found, among[[1, 1]], atol=1e-5)
    assert teacher.prepare([("", "")])["input_ids"].shape == (1, 1)


def test_the_recorded_tokenizer_does_not_change_with_use(folder: Path) -> None:
    before = text_teacher(folder)
    before.prepare(["a cat", "the dog"])
    assert text_teacher(folder).card == before.card
    assert len(before.card.preprocessing["tokenizer_sha256"]) == 64


@pytest.mark.parametrize(
    "kind",
    [
        "DistilBert",
        "Roberta",
        "Albert",
        "Electra",
        "MPNet",
        "DebertaV2",
        "ModernBert",
        "T5",
        "Llama",
    ],
)
def test_other_encoders_of_transformers_work_with_random_weights(kind: str, tmp_path: Path) -> None:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=4 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        pad_token_id=0,
        **SPECIAL.get(kind, {}),
    )
    config.save_pretrained(tmp_path)
    words = tokenizer()
    words.model_input_names = ["input_ids", "attention_mask"]
    words.save_pretrained(tmp_path)
    teacher = text_teacher(tmp_path, weights="random")
    rows = teacher.embed(teacher.prepare(RAGGED)).features
    alone = np.concatenate([teacher.embed(teacher.prepare([t])).features for t in RAGGED])
    assert rows.shape == (8, teacher.card.dim)
    assert np.abs(rows - alone).max() <= 1e-5 * np.abs(rows).max()
    assert teacher.embed(teacher.prepare(["the cat " * 60])).features.shape[0] == 1


SPECIAL: dict[str, dict[str, Any]] = {
    "Albert": {"embedding_size": 8},
    "Electra": {"embedding_size": 8},
    "DistilBert": {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "T5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 2},
    "Llama": {"num_key_value_heads": 2},
    "ModernBert": {"cls_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "bos_token_id": 2},
}


def test_random_weights_of_an_encoder_are_a_function_of_the_seed(folder: Path) -> None:
    digests = [text_teacher(folder, weights="random", seed=s).card.weights for s in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert text_teacher(folder).card.weights == text_teacher(folder).card.weights


def test_a_pooler_that_the_weights_lack_is_not_made_up(tmp_path: Path) -> None:
    bert_folder(tmp_path, kind="BertForMaskedLM")  # saved without a pooler
    teacher, other = (text_teacher(tmp_path, seed=seed) for seed in (0, 1))
    assert not any("pooler" in key for key in teacher.module.state_dict())
    assert teacher.card.weights == other.card.weights
    with pytest.raises(WeightsError, match="hold no pooler; use pooling mean or cls"):
        text_teacher(tmp_path, pooling="pooler")


def test_a_classifier_that_the_weights_lack_is_not_made_up(tmp_path: Path) -> None:
    """A config may still name the classifier that its weights were cut from."""
    bert_folder(tmp_path, kind="BertForMaskedLM")  # saved without pooler and classifier
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="hold no pooler; use pooling mean or cls"):
        text_teacher(tmp_path, pooling="pooler")


def test_a_weights_file_without_a_pooler_is_enough_where_none_is_read(tmp_path: Path) -> None:
    bert_folder(tmp_path, kind="BertForMaskedLM")
    found = text_teacher(tmp_path, weights=str(tmp_path / "model.safetensors"))
    assert found.card.weights == text_teacher(tmp_path).card.weights


def test_a_network_without_a_pooler_says_so(tmp_path: Path) -> None:
    from transformers import ElectraConfig

    ElectraConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(
        tmp_path
    )
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="has no pooler; use pooling mean or cls"):
        text_teacher(tmp_path, weights="random", pooling="pooler")


def test_a_sequence_classifier_brings_its_head_with_the_pooler(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    names = {0: "dull", 1: "Fun", 2: "odd"}
    bert_folder(tmp_path, kind="BertForSequenceClassification", id2label=names)
    teacher = text_teacher(tmp_path, pooling="pooler", classes=("odd", "dull", "fun"))
    prepared = teacher.prepare(RAGGED)
    with torch.inference_mode():
        whole = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()(**prepared)
    found = teacher.embed(prepared).logits
    assert found is not None
    assert teacher.card.classes == ("odd", "dull", "fun")
    np.testing.assert_allclose(found, whole.logits[:, [2, 0, 1]].numpy(), atol=1e-5)
    assert text_teacher(tmp_path, pooling="mean").head is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf/{tmp}/nowhere", "there is no folder"),
        ("hf/{tmp}", "holds no transformers network: no config.json"),
    ],
)
def test_a_folder_without_a_network_is_told(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownTeacherError, match=message):
        load_teacher(name.format(tmp=tmp_path))


def test_an_option_the_config_does_not_know_is_refused(folder: Path) -> None:
    with pytest.raises(TeacherError, match="has no option 'layers'"):
        text_teacher(folder, weights="random", options={"layers": 1})
    assert text_teacher(folder, weights="random", options={"num_hidden_layers": 1}).card.dim == 16


def test_an_option_of_a_wrong_kind_is_told_in_one_line(folder: Path) -> None:
    with pytest.raises(TeacherError, match=r"cannot build .*num_hidden_layers") as caught:
        text_teacher(folder, weights="random", options={"num_hidden_layers": "two"})
    assert "\n" not in str(caught.value)


def test_image_encoders_of_transformers_go_through_their_processor(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
    )
    ViTModel(config).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    teacher = text_teacher(tmp_path, pooling="cls")
    noise = np.random.default_rng(0).integers(0, 256, (2, 50, 40, 3), dtype=np.uint8)
    prepared = teacher.prepare([Image.fromarray(pixels) for pixels in noise])
    network: Any = teacher.module.network
    with torch.inference_mode():
        expected = network(**prepared).last_hidden_state[:, 0]
    assert teacher.card.modality == "image"
    np.testing.assert_allclose(teacher.embed(prepared).features, expected.numpy(), atol=1e-5)
    with pytest.raises(TeacherError, match="leave --image-size out"):
        text_teacher(tmp_path, image_size=64)


SMALL_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 16,
}


def image_folder(folder: Path, network: Any) -> Path:
    from transformers import ViTImageProcessor

    network.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["registers", "distilled"])
def test_the_mean_of_an_image_is_of_its_patches_alone(kind: str, tmp_path: Path) -> None:
    """Neither registers nor a distillation token, which come between class token and patches."""
    from PIL import Image
    from transformers import (
        DeiTConfig,
        DeiTModel,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    made: Any = (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL_VIT, num_register_tokens=3))
        if kind == "registers"
        else DeiTModel(DeiTConfig(**SMALL_VIT))
    )
    teacher = text_teacher(image_folder(tmp_path, made))
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    prepared = teacher.prepare([Image.fromarray(pixels) for pixels in noise])
    network: Any = teacher.module.network
    with torch.inference_mode():
        patches = network(**prepared).last_hidden_state[:, -4:]
    np.testing.assert_allclose(
        teacher.embed(prepared).features, patches.mean(dim=1).numpy(), atol=1e-5
    )


def test_images_of_a_size_that_the_network_does_not_read_are_told(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    image_folder(tmp_path, ViTModel(ViTConfig(**SMALL_VIT)))
    size = {"size": {"height": 16, "width": 16}}
    with pytest.raises(TeacherError, match=r"cannot read inputs of .*\(3, 16, 16\)"):
        text_teacher(tmp_path, preprocessing=size)


def test_a_network_of_images_and_texts_is_refused(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    text = {name: SMALL_VIT[name] for name in list(SMALL_VIT)[:4]} | {"vocab_size": 30}
    config = CLIPConfig(text_config=text, vision_config=SMALL_VIT)
    image_folder(tmp_path, CLIPModel(config))
    with pytest.raises(TeacherError, match="does not read images alone: it wants input_ids"):
        text_teacher(tmp_path)
