"""``distill nest-lm`` from its command to its files: taught, measured, killed, refused."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import distill
from distill.findings import LanguageFrontier
from distill.language_curves import apart
from distill.progress import Silent
from students import nested as n
from teachers import load_language
from tests.cli_examples import Command
from tests.language_examples import ROWS, TOKENS, corpus, llama_folder
from tests.teachers_examples import WORDS, tokenizer

RIVALS = ("svd", "whitened", "one-rank", "width", "half", "longer")
QUICK: dict[str, Any] = {
    "tokens": TOKENS, "include": "mlp,attention", "points": 3, "calibration": 16, "epochs": 2,
    "batch_size": 8, "learning_rate": 2e-3, "seeds": 2, "rival_seeds": 1, "repeats": 1,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama_folder(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, model: Path) -> str:
    return corpus(tmp_path_factory.mktemp("said"), model)


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, model: Path, data: str
) -> tuple[Path, LanguageFrontier]:
    """A run with every rival."""
    run = tmp_path_factory.mktemp("run") / "run"
    config = run.with_suffix(".toml")
    config.write_text("[frontier]\npoints = 5\nrank_networks = 2\nbatches = [1]\n")
    return run, distill.nest_lm(run, config=config, model=str(model), data=data, **QUICK)


def words(model: Path, data: str, run: Path, *more: object) -> tuple[object, ...]:
    told = [word for key, value in QUICK.items() for word in (f"--{key.replace('_', '-')}", value)]
    return ("nest-lm", "--run", run, "--model", model, "--data", data, *told, *more)


# --- what it finds --------------------------------------------------------------------------------


def test_every_rival_has_a_curve_and_the_nested_network_comes_first(
    measured: tuple[Path, LanguageFrontier],
) -> None:
    _, found = measured
    assert [curve.name for curve in found.curves] == ["nested", *RIVALS]
    taught = {curve.name: (curve.seeds, curve.trainings, curve.updates) for curve in found.curves}
    assert taught == {
        "nested": (2, 2, 6), "svd": (1, 0, 0), "whitened": (1, 0, 0), "one-rank": (1, 2, 6),
        "width": (1, 1, 6), "half": (1, 1, 6), "longer": (1, 1, 6),
    }  # fmt: skip
    assert found.rows == ROWS
    assert (found.tokens, found.vocabulary, found.layers) == (TOKENS, 32, 14)
    nested = found.curves[0].points
    assert sum(point.trained for point in nested) == 3
    assert [p.share for p in nested] == sorted({p.share for p in nested})
    assert all(point.share <= point.budget + 1e-9 for point in nested)
    assert all(point.behind is None for point in nested)
    assert {len(point.latencies) for point in (found.dense, *nested)} == {1}


def test_perplexity_of_the_dense_model_is_that_of_a_plain_loop(
    measured: tuple[Path, LanguageFrontier], model: Path, data: str
) -> None:
    import pyarrow.parquet as pq

    file = data.removeprefix("parquet:").replace("*", "test")
    tokens = torch.tensor(pq.read_table(file)["input_ids"].to_pylist())
    with torch.no_grad():
        logits = load_language(str(model)).speaker({"input_ids": tokens})
    loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    dense = measured[1].dense
    assert dense.perplexity == pytest.approx(math.exp(float(loss)), rel=1e-5)
    assert dense.divergence == pytest.approx(0, abs=1e-6)
    assert (dense.agreement, dense.rise.low, dense.rise.high) == (1.0, 0.0, 0.0)


def test_what_is_only_cut_is_dense_at_full_rank_and_worse_below(
    measured: tuple[Path, LanguageFrontier],
) -> None:
    _, found = measured
    for curve in found.curves[1:3]:
        assert curve.points[-1].surprise.mean == pytest.approx(found.dense.surprise.mean, abs=1e-4)
        assert curve.points[0].divergence > 0.05
    nested, svd = found.curves[0].points, found.curves[1].points
    assert [p.share for p in nested] == [p.share for p in svd]
    assert nested[0].divergence < svd[0].divergence  # taught there, with dense's own answers


def test_rivals_are_compared_in_pairs_at_no_more_flops(
    measured: tuple[Path, LanguageFrontier],
) -> None:
    nested, *rivals = measured[1].curves
    for curve in rivals:
        for point in curve.points:
            paid = [one for one in nested.points if one.share <= point.share + 1e-6]
            if not paid:
                assert point.behind is None
                continue
            middle = point.surprise.mean - paid[-1].surprise.mean
            assert point.behind is not None
            assert (point.behind.low + point.behind.high) / 2 == pytest.approx(middle, abs=1e-9)


def test_differences_are_of_windows_in_pairs() -> None:
    ours, theirs = np.array([[2.0, 2.0, 4.0], [2.0, 2.0, 4.0]]), np.array([[1.0, 1.0, 2.0]])
    found = apart(ours, theirs)  # 1, 1 and 2 apart: 4/3 ± 4.303 · 0.577 / √3
    assert found.low == pytest.approx(-0.1009, abs=1e-3)
    assert found.high == pytest.approx(2.7676, abs=1e-3)
    same = apart(theirs, theirs)
    assert (same.low, same.high) == (0.0, 0.0)


def test_seeds_that_differ_widen_the_interval() -> None:
    theirs = np.random.default_rng(0).normal(3.0, 1.0, (1, 400))
    shifts = np.array([[0.0], [0.1], [0.5]])
    ours = theirs + shifts  # no window differs from another: all variance is the seeds'
    found = apart(ours, theirs)
    half = 4.302653 * float(shifts.std(ddof=1)) / math.sqrt(3)  # Student's of two degrees
    assert [found.low, found.high] == pytest.approx([0.2 - half, 0.2 + half])


def test_what_is_picked_is_within_on_validation(measured: tuple[Path, LanguageFrontier]) -> None:
    picked = measured[1].picked
    shares = [point.share for point in measured[1].curves[0].points]
    if picked.share is None:
        assert picked.validation.high > math.log1p(picked.tolerance)
    else:
        assert picked.share in shares
        assert picked.validation.high <= math.log1p(picked.tolerance)


# --- what it leaves -------------------------------------------------------------------------------


def test_the_network_speaks_at_a_budget(measured: tuple[Path, LanguageFrontier]) -> None:
    run, found = measured
    folder = run / "nested" / found.name
    speaker = distill.load_nested_lm(folder, budget=0.8)
    assert n.budget_of(speaker) <= 0.8
    begun = torch.tensor([[1, 2, 3]])
    told = speaker.model.generate(begun, max_new_tokens=4, do_sample=False, pad_token_id=0)  # type: ignore[operator]
    with torch.no_grad():
        first = speaker({"input_ids": begun})[0, -1].argmax()
    assert told[0, 3] == first
    plain = n.materialise(speaker, n.ranks(speaker))
    with torch.no_grad():
        said = [one({"input_ids": begun}) for one in (speaker, plain)]
    torch.testing.assert_close(said[0], said[1], rtol=1e-4, atol=1e-4)
    assert not any(isinstance(part, n.NestedLayer) for part in plain.modules())


def test_its_files_say_the_same(measured: tuple[Path, LanguageFrontier]) -> None:
    run, found = measured
    assert LanguageFrontier.from_json(json.loads((run / "language.json").read_text())) == found
    text, page = ((run / f"language.{ending}").read_text() for ending in ("md", "html"))
    assert "What perplexity costs: budgets of a nested language model" in text
    assert text.count("| nested |") + text.count("| **nested** |") == len(found.curves[0].points)
    assert "<svg" in page
    assert "svd: the nested network&#39;s perplexity is lower at" in page


def test_the_same_command_again_teaches_nothing_and_finds_the_same(
    measured: tuple[Path, LanguageFrontier], tmp_path: Path, call: Command, model: Path, data: str
) -> None:
    run, found = measured
    shutil.copytree(run, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*.safetensors")}
    code, out, err = call(*words(model, data, tmp_path / "run", "--json"))
    assert code == 0, err
    assert LanguageFrontier.from_json(json.loads(out)) == found
    assert before == {file: file.stat().st_mtime_ns for file in before}


class Stops(Silent):
    """Interrupts when the named network is about to answer, or among the tries of ranks."""

    def __init__(self, at: str) -> None:
        self.at = at

    def say(self, text: str) -> None:
        if text.startswith(self.at):
            raise KeyboardInterrupt

    @contextmanager
    def task(self, label: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        del total, unit
        left = [5]

        def advance(amount: int) -> None:
            left[0] -= amount
            if label == self.at and left[0] <= 0:
                raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize("at", ["try ranks", "nested 14 layers", "nested-s1 answers", "one-rank"])
def test_what_broke_off_goes_on_and_ends_as_one_that_did_not(
    measured: tuple[Path, LanguageFrontier], tmp_path: Path, model: Path, data: str, at: str
) -> None:
    run, found = measured
    config = run.with_suffix(".toml")
    told: dict[str, Any] = {**QUICK, "model": str(model), "data": data, "config": config}
    with pytest.raises(KeyboardInterrupt):
        distill.nest_lm(tmp_path / "run", progress=Stops(at), **told)
    assert bool(list(tmp_path.rglob(".*.tried-*"))) == (at == "try ranks")
    again = distill.nest_lm(tmp_path / "run", **told)
    for mine, theirs in zip(again.curves, found.curves, strict=True):
        for one, other in zip(mine.points, theirs.points, strict=True):
            assert one.surprise == other.surprise
    assert not list(tmp_path.rglob(".*.tried-*"))


@pytest.mark.parametrize(
    ("more", "same"),
    [
        ({"hint_weight": 2.0}, ["svd", "whitened"]),  # which are taught nothing
        ({"own_biases": True}, list(RIVALS)),  # which have none
    ],
)
def test_with_hints_or_own_biases_what_broke_off_goes_on_and_others_learn(
    measured: tuple[Path, LanguageFrontier],
    tmp_path: Path,
    model: Path,
    data: str,
    more: dict[str, Any],
    same: list[str],
) -> None:
    """Nested embeddings and rivals among them; by other weights than without."""
    config = measured[0].with_suffix(".toml")
    told: dict[str, Any] = {
        **QUICK, "model": str(model), "data": data, "config": config, **more,
        "repeats": 0,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        distill.nest_lm(tmp_path / "cut", progress=Stops("nested-s1 answers"), **told)
    found = [distill.nest_lm(tmp_path / name, **told) for name in ("cut", "whole")]
    lines = [[p.surprise for c in one.curves for p in c.points] for one in (*found, measured[1])]
    assert lines[0] == lines[1]
    alike = [
        curve.name
        for curve, plain in zip(found[0].curves, measured[1].curves, strict=True)
        if [p.surprise for p in curve.points] == [p.surprise for p in plain.points]
    ]
    assert alike == same
    own = bool(more.get("own_biases"))
    nested, plain = found[0].curves[0], measured[1].curves[0]
    assert nested.about.endswith("; biases of each taught rank's own") == own
    for one, other in zip(nested.points, plain.points, strict=True):
        assert (one.parameters > other.parameters) == own  # layers had none


def test_without_the_dense_model_the_next_tokens_are_learned(
    tmp_path: Path, model: Path, data: str
) -> None:
    told: dict[str, Any] = {**QUICK, "seeds": 1, "repeats": 0, "rivals": "", "label_weight": 0.0}
    curves = [
        distill.nest_lm(tmp_path / way, model=str(model), data=data, distill=way, **told).curves[0]
        for way in ("none", "dense")
    ]
    alone, taught = ([p.surprise.mean for p in curve.points] for curve in curves)
    assert alone != taught
    assert curves[0].updates == curves[1].updates > 0


def test_texts_go_through_the_models_own_tokenizer(tmp_path: Path, call: Command) -> None:
    """A GPT-NeoX, as Pythia is, and a table of sentences with labels that are not read."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder, names = tmp_path / "neox", tokenizer()
    shape = {
        "vocab_size": len(names), "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32,
    }  # fmt: skip
    GPTNeoXForCausalLM(GPTNeoXConfig(**shape)).save_pretrained(folder)
    names.save_pretrained(folder)
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, size=6)) for _ in range(60)]
    rows = "\n".join(f"{line},{at % 2}" for at, line in enumerate(lines))
    (tmp_path / "texts.csv").write_text(f"text,label\n{rows}\n")
    data, run = f"csv:{tmp_path}/texts.csv", tmp_path / "run"
    more = ("--seeds", "1", "--rivals", "", "--repeats", "0", "--epochs", "1", "--tokens", "8")
    code, out, err = call(*words(folder, data, run, *more, "--json"))
    assert code == 0, err
    found = LanguageFrontier.from_json(json.loads(out))
    # of 60 texts of 6 tokens 40 are left in train, in windows of 8
    assert (found.rows["train"], found.vocabulary) == (30, len(names))
    assert found.layers == 8
    assert "texts, tokenised, in windows of 8" in found.notes
    kept = run / "nested" / found.name / "tokenizer"
    assert (kept / "tokenizer.json").is_file()
    assert not found.dense.latencies
    assert found.seconds > 0  # of the one network there is


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--model", ""), ("name a causal language model with --model",)),
        (("--model", "/nowhere/at/all"), ("there is no folder /nowhere/at/all",)),
        (("--data", "digits"), ("name texts to learn from and to be tested on with --data",)),
        (("--tokens", "33"), ("reads at most 32 tokens", "give --tokens 32 or fewer")),
        (("--tokens", "1"), ("language.tokens", "greater than or equal to 2")),
        (("--rivals", "svd,hafl"), ("no rival named 'hafl'", "half")),
        (("--include", "mpl"), ("finds no layer", "mlp")),
        (("--include", "head"), ("is tied to", "leave it out with '!")),
        (("--floor", "0.0001"), ("below what this network can reach",)),
    ],
)
def test_a_mistake_is_one_line(
    call: Command, model: Path, data: str, tmp_path: Path, more: tuple[str, ...], parts: tuple[str]
) -> None:
    code, out, err = call(*words(model, data, tmp_path / "run", *more))
    last = err.splitlines()[-1]
    assert (code, out) == (2, ""), err
    assert last.startswith("distill: ")
    for part in parts:
        assert part in last, err


def test_other_settings_are_refused_and_overwritten_when_told(
    measured: tuple[Path, LanguageFrontier], tmp_path: Path, call: Command, model: Path, data: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(measured[0], run)
    answer = call(*words(model, data, run, "--epochs", "1", "--rivals", "svd"))
    assert answer[0] == 2
    assert "with epochs = 2, now it is 1; give this one a name" in answer[2].splitlines()[-1]
    folder = run / "nested" / measured[1].name
    told = call("predict", "a text", "--run", run, "--student", folder, "--budget", "0.8")
    assert (told[0], told[1]) == (2, "")
    assert "holds a language model, which tells no classes: take distill.load_nested_lm" in told[2]
    assert (run / "nested" / measured[1].name / "nested.safetensors").is_file()
    more = ("--epochs", "1", "--rivals", "", "--seeds", "1", "--overwrite", "--json")
    code, out, err = call(*words(model, data, run, *more))
    assert code == 0, err
    assert [curve["updates"] for curve in json.loads(out)["curves"]] == [3]


@pytest.mark.parametrize("how", ["try ranks", "floor"])
def test_what_ends_among_the_tries_leaves_the_network_that_was_there(
    measured: tuple[Path, LanguageFrontier], tmp_path: Path, model: Path, data: str, how: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(measured[0], run)
    kept = [run / part / measured[1].name for part in ("nested", "frontier")]

    def found() -> dict[Path, bytes]:
        return {file: file.read_bytes() for at in kept for file in at.rglob("*") if file.is_file()}

    before = found()
    told: dict[str, Any] = {**QUICK, "model": str(model), "data": data, "overwrite": True}
    if how == "floor":
        with pytest.raises(distill.UserError, match="ask for at least"):
            distill.nest_lm(run, **told, floor=1e-4)
    else:
        with pytest.raises(KeyboardInterrupt):
            distill.nest_lm(run, **{**told, "calibration": 12}, progress=Stops(how))
    assert found() == before


def test_a_classifier_is_no_language_model(run_copy: Path, call: Command, tmp_path: Path) -> None:
    nest = ("nest", "--run", run_copy, "--include", "*.conv2", "--epochs", "1", "--points", "2")
    assert call(*nest, "--calibration", "16")[0] == 0
    (folder,) = (run_copy / "nested").iterdir()
    with pytest.raises(distill.UserError, match="holds a network that tells classes: take"):
        distill.load_nested_lm(folder)
    with pytest.raises(distill.UserError):
        distill.load_nested_lm(tmp_path)
