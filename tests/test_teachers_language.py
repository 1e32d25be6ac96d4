"""Causal language models: read, built anew, and told from what only looks like one."""

import json
from pathlib import Path

import pytest
import torch

from teachers import TeacherError, WeightsError, build_language, load_language
from tests.language_examples import llama_folder
from tests.teachers_examples import bert_folder, tokenizer

TOKENS = torch.arange(14).reshape(2, 7)


def test_it_says_what_transformers_own_network_says(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    folder = llama_folder(tmp_path)
    found = load_language(str(folder))
    own = LlamaForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(found.speaker({"input_ids": TOKENS}), own(TOKENS).logits)
    assert (found.vocabulary, found.positions, found.tokenizer) == (32, 32, None)
    assert not found.speaker.training
    assert {p.dtype for p in found.speaker.parameters()} == {torch.float32}


def test_its_config_alone_builds_the_same_network(tmp_path: Path) -> None:
    found = load_language(str(llama_folder(tmp_path)))
    again = build_language(json.loads(json.dumps(found.config)))
    again.load_state_dict(found.speaker.state_dict())
    with torch.no_grad():
        said = [one({"input_ids": TOKENS}) for one in (found.speaker, again)]
    torch.testing.assert_close(said[0], said[1], rtol=0, atol=0)


def test_a_tokenizer_beside_the_weights_comes_with_it(tmp_path: Path) -> None:
    folder = llama_folder(tmp_path)
    tokenizer().save_pretrained(folder)
    found = load_language(str(folder)).tokenizer
    assert found is not None
    assert (
        found("a cat", add_special_tokens=False)["input_ids"]
        == tokenizer()("a cat")["input_ids"][1:-1]
    )


def test_an_encoder_whose_tokens_see_ahead_is_refused(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path, kind="BertForMaskedLM")
    with pytest.raises(TeacherError, match=r"the tokens of hf/.* see those after them"):
        load_language(str(folder))


def test_what_reads_with_an_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=8, d_model=8, d_ff=8, num_layers=1, num_heads=1).save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match=r"\(t5\) is no causal language model; a network that"):
        load_language(str(tmp_path))


def test_folders_that_are_none_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="holds no language model: no config"):
        load_language(str(tmp_path))
    with pytest.raises(TeacherError, match="there is no folder"):
        load_language(str(tmp_path / "nowhere"))


def test_damaged_and_missing_weights_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = llama_folder(tmp_path)
    file = folder / "model.safetensors"
    whole = load_file(file)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**whole, name: whole[name] * float("nan")}, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="gives NaN or infinity: its weights are damaged"):
        load_language(str(folder))
    fewer = {key: value for key, value in whole.items() if key != name}
    save_file(fewer, file, metadata={"format": "pt"})
    with pytest.raises(
        WeightsError, match=r"lack or do not fit model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        load_language(str(folder))
    file.unlink()
    with pytest.raises(WeightsError):
        load_language(str(folder))


class Trap:
    """What a pickle may hold."""

    ran = False

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _sprung, ("x",)


def _sprung(_: str) -> None:
    Trap.ran = True


def test_a_pickle_that_holds_code_is_not_run(tmp_path: Path) -> None:
    folder = llama_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(TeacherError):
        load_language(str(folder))
    assert not Trap.ran


def test_a_hub_name_offline_is_one_line() -> None:
    with pytest.raises(WeightsError, match="offline") as told:
        load_language("nobody/no-model")
    assert "\n" not in str(told.value)
