"""Student networks: widths, seeds, what is refused, and the one file of a finished one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from students import (
    Blueprint,
    CheckpointError,
    Classifier,
    Encoder,
    StudentError,
    StudentWeightsError,
    UnknownStudentError,
    build_student,
    carried_head,
    count_parameters,
    fresh_head,
    load_student,
    save_student,
)
from students.checkpoint import read_tensors, write_tensors

NARROW = {"channels": [4, 8, 8, 8], "stem_width": 4}
TINY_BERT = {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PIXELS = {"pixel_values": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))}


def small(**changes: Any) -> Encoder:
    settings: dict[str, Any] = {
        "dim_out": 5,
        "modality": "image",
        "options": NARROW,
        "image_size": 32,
    }
    name = changes.pop("name", "timm/resnet10t")
    return build_student(name, **(settings | changes))


def own(dim_out: int, hidden: int = 4) -> nn.Module:
    """A factory as a user would write one."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, hidden), nn.Linear(hidden, dim_out))

        def forward(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
            rows: torch.Tensor = self.layers(prepared["pixel_values"].mean(dim=(2, 3)))
            return rows

    return Own()


def not_a_network(dim_out: int) -> int:
    return dim_out


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("timm/resnet10t", NARROW),
        ("timm/vit_tiny_patch16_224", {"depth": 1, "patch_size": 8, "embed_dim": 24}),
        ("timm/mobilenetv3_small_050", {}),
        (f"{__name__}:own", {"hidden": 6}),
    ],
)
def test_every_family_ends_in_as_many_numbers_as_asked_for(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    network = small(name=name, options=options, dim_out=7).eval()
    rows = network(PIXELS)
    assert rows.shape == (3, 7)
    rows.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_network_of_width_0_ends_in_its_own_pooled_feature() -> None:
    whole, bare = small(dim_out=5).eval(), small(dim_out=0).eval()
    assert bare.dim_out == 8
    assert isinstance(bare.neck, nn.Identity)
    # the body has the same weights as with a neck: it is drawn first
    torch.testing.assert_close(whole.neck(bare(PIXELS)), whole(PIXELS))
    text = build_student("hf/bert", dim_out=0, modality="text", options=TINY_BERT, vocabulary=30)
    ids = torch.tensor([[5, 6]])
    assert text.eval()({"input_ids": ids, "attention_mask": ids * 0 + 1}).shape == (1, 16)
    assert text.dim_out == 16


def test_the_rows_can_be_of_either_sign_whatever_the_body_ends_in() -> None:
    rows = small(dim_out=64).eval()(PIXELS)
    assert bool((rows > 0).any())
    assert bool((rows < 0).any())


def test_the_seed_decides_the_weights_and_global_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (small(seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["neck.weight"], other["neck.weight"])
    assert torch.equal(fresh_head(3, 2, seed=4).weight, fresh_head(3, 2, seed=4).weight)
    assert torch.equal(before, torch.get_rng_state())


def test_the_parameters_of_a_known_network_are_counted() -> None:
    # by hand: (7 weights + 1 bias) x 5, and 5 x 2 + 2
    network = Classifier(nn.Linear(7, 5), nn.Linear(5, 2))
    assert count_parameters(network) == 8 * 5 + 12


def test_folding_the_scale_changes_no_row() -> None:
    network = small().eval()
    plain = network(PIXELS)
    network.set_scale(2.5)
    scaled = network(PIXELS)
    torch.testing.assert_close(scaled, 2.5 * plain)
    network.fold_scale()
    assert float(network.scale) == 1.0
    torch.testing.assert_close(network(PIXELS), scaled)


def test_a_scale_without_a_neck_to_fold_into_stays() -> None:
    network = Encoder(nn.Identity(), nn.Identity(), dim_out=2)
    network.set_scale(3.0)
    network.fold_scale()
    assert float(network.scale) == 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "timm/resnet10"}, "no timm network named 'resnet10'; did you mean 'resnet10t'"),
        ({"name": "tim/resnet10t"}, "no student named 'tim/resnet10t'.*did you mean 'timm'"),
        ({"name": "resnet"}, "say timm/<name>, hf/<model type>, static/<dim> or module:factory"),
        ({"name": "no_such_module:make"}, "no student factory 'no_such_module:make'"),
        ({"name": "hf/bertt", "modality": "text", "vocabulary": 9, "options": {}}, "did you mean"),
    ],
)
def test_an_unknown_name_is_told_with_what_is_near(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownStudentError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim_out": -1}, "width must be at least 1, or 0 for the network's own, got -1"),
        ({"name": "builtins:dict", "dim_out": 0}, "builtins:dict is told its width and has none"),
        ({"options": {"chanels": 3}}, "timm/resnet10t cannot be built with the options"),
        ({"options": {"channels": [8, 8]}}, "timm/resnet10t cannot be built with the options"),
        ({"modality": "text"}, "timm/resnet10t reads images, but the data are text"),
        ({"name": "hf/bert"}, "hf/bert reads texts, but the data are images"),
        ({"name": "hf/bert", "modality": "text"}, "needs the size of the tokenizer's vocabulary"),
        ({"name": "builtins:dict"}, "it must give a torch.nn.Module"),
        (
            {
                "name": "hf/bert",
                "modality": "text",
                "vocabulary": 9,
                "options": {"hidden_size": 10, "num_attention_heads": 3},
            },
            "hf/bert cannot be built with the options",
        ),
        (
            {
                "name": "hf/bert",
                "modality": "text",
                "vocabulary": 9,
                "options": {"hidden_size": "x"},
            },
            "hf/bert cannot be built with the options.*hidden_size",
        ),
        (
            {"name": "hf/funnel", "modality": "text", "vocabulary": 9, "options": {}},
            "hf/funnel cannot be built with the options",
        ),
        *(
            (
                {"name": name, "modality": "text", "vocabulary": 9, "options": {}},
                f"{name} is no encoder that reads tokens alone",
            )
            for name in ("hf/t5", "hf/vit")
        ),
    ],
)
def test_what_a_constructor_refuses_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudentError, match=message) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


def bert() -> Encoder:
    return build_student(
        "hf/bert", dim_out=6, modality="text", options=TINY_BERT, vocabulary=30, seed=3
    ).eval()


def test_a_text_row_does_not_depend_on_padding() -> None:
    network = bert()
    assert "pooler" not in " ".join(name for name, _ in network.named_parameters())
    alone = network(
        {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2).long()}
    )
    padded = network(
        {
            "input_ids": torch.tensor([[5, 6, 0, 0], [7, 8, 9, 10]]),
            "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]),
            "token_type_ids": torch.zeros(2, 4).long(),
        }
    )
    torch.testing.assert_close(padded[:1], alone, rtol=1e-5, atol=1e-6)
    assert padded.shape == (2, 6)


@pytest.mark.parametrize("family", ["distilbert", "roberta", "electra"])
def test_other_families_of_text_encoders_read_the_same_batch(family: str) -> None:
    network = build_student(
        f"hf/{family}", dim_out=4, modality="text", options={"num_hidden_layers": 1}, vocabulary=30
    )
    ids = torch.tensor([[5, 6, 7]])
    batch = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    assert network.eval()(batch).shape == (1, 4)


def test_a_text_encoder_is_built_from_a_folders_config(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(**TINY_BERT).save_pretrained(tmp_path)
    network = build_student(f"hf/{tmp_path}", dim_out=4, modality="text", vocabulary=12)
    words = network.get_parameter("body.network.embeddings.word_embeddings.weight")
    assert words.shape == (12, 16)


@pytest.mark.parametrize("part", ["whole", "network"])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_weights_come_from_a_file_of_the_whole_or_of_the_body(
    tmp_path: Path, part: str, ending: str
) -> None:
    source = small(seed=5)
    module = source if part == "whole" else source.get_submodule("body.network")
    path = tmp_path / f"w{ending}"
    if ending == ".pth":
        torch.save(module.state_dict(), path)
    else:
        save_file(module.state_dict(), path)
    loaded = small(seed=6, weights=str(path))
    same = {
        name: torch.equal(loaded.get_parameter(name), source.get_parameter(name))
        for name in ("body.network.conv1.0.weight", "neck.weight")
    }
    assert same == {"body.network.conv1.0.weight": True, "neck.weight": part == "whole"}


def test_weights_that_do_not_fit_name_what_does_not(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(small(dim_out=4).state_dict(), path)
    with pytest.raises(StudentWeightsError, match=r"neck.weight|neck.bias"):
        small(weights=str(path))
    save_file({"unrelated": torch.zeros(1)}, path)
    with pytest.raises(StudentWeightsError, match="does not fit the student: missing"):
        small(weights=str(path))
    with pytest.raises(StudentWeightsError, match="there is no weights file"):
        small(weights=str(tmp_path / "none.safetensors"))


class Evil:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_a_pickle_that_is_more_than_tensors_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"a": Evil()}, path)
    with pytest.raises(StudentWeightsError, match="holds more than tensors or is damaged"):
        small(weights=str(path))
    path.with_suffix(".safetensors").write_bytes(b"not it")
    with pytest.raises(StudentWeightsError, match="is not a sound safetensors file"):
        small(weights=str(path.with_suffix(".safetensors")))
    assert capsys.readouterr().out == ""


def saved(path: Path) -> Encoder:
    encoder = small(seed=2).eval()
    head = fresh_head(5, 2, seed=1)
    save_student(
        path,
        encoder,
        weight=head.weight,
        bias=head.bias,
        blueprint=Blueprint(
            name="timm/resnet10t", dim_out=5, modality="image", options=NARROW, image_size=32
        ),
        classes=("cat", "dög"),
        preprocessing={"mean": [0.5]},
        made_by={"seed": 2},
    )
    return encoder


def test_a_finished_student_comes_back_with_all_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    encoder = saved(path)
    found = load_student(path)
    assert (found.classes, found.preprocessing) == (("cat", "dög"), {"mean": [0.5]})
    assert found.made_by == {"seed": 2}
    assert not found.network.training
    head = fresh_head(5, 2, seed=1)
    torch.testing.assert_close(found.network(PIXELS), head(encoder(PIXELS)))


def test_a_student_file_that_is_not_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    saved(path)
    tensors, card = read_tensors(path)
    write_tensors(path, tensors, card | {"format": 99})
    with pytest.raises(CheckpointError, match="has format 99 and this version reads 1"):
        load_student(path)
    write_tensors(path, {n: t for n, t in tensors.items() if n != "head.bias"}, card)
    with pytest.raises(CheckpointError, match="do not fit the network timm/resnet10t"):
        load_student(path)
    write_tensors(path, tensors, card | {"blueprint": {"name": "x"}})
    with pytest.raises(CheckpointError, match="does not describe a student network"):
        load_student(path)
    write_tensors(path, tensors, {"epoch": 1})
    with pytest.raises(CheckpointError, match="holds no student"):
        load_student(path)


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    encoder = small()
    with pytest.raises(StudentError, match=r"shape \(2, 4\) does not fit 2 classes.*width 5"):
        save_student(
            tmp_path / "x",
            encoder,
            weight=torch.zeros(2, 4),
            bias=torch.zeros(2),
            blueprint=Blueprint(name="timm/resnet10t", dim_out=5, modality="image"),
            classes=("a", "b"),
            preprocessing={},
            made_by={},
        )


def test_a_carried_over_head_is_the_same_and_frozen() -> None:
    weight, bias = torch.randn(2, 5), torch.randn(2)
    head = carried_head(weight, bias)
    assert torch.equal(head.weight, weight)
    assert not any(parameter.requires_grad for parameter in head.parameters())
