"""The numbers a step is computed in."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from students import DivergedError, LabelLoss, RecipeError
from students.checkpoint import read_tensors
from students.precision import working_type
from tests.training_examples import Net, network, recipe, train, weights


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.bfloat16),
        ("auto", "mps", torch.float32),
        ("float32", "cuda", torch.float32),
        ("bfloat16", "cpu", torch.bfloat16),
        ("float16", "cuda:1", torch.float16),
    ],
)
def test_auto_is_bfloat16_on_a_gpu_alone(
    precision: str, device: str, expected: torch.dtype
) -> None:
    assert working_type(precision, torch.device(device)) == expected


def test_float16_without_a_gpu_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    expected = "float16 needs a CUDA GPU, and this training runs on cpu; choose bfloat16 or float32"
    with pytest.raises(RecipeError, match=expected):
        train(tmp_path / "run", recipe=recipe(precision="float16"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("precision", "inside"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_products_are_in_the_precision_and_loss_and_weights_in_float32(
    tmp_path: Path, precision: str, inside: torch.dtype
) -> None:
    seen: set[tuple[bool, torch.dtype]] = set()

    class Watched(Net):
        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            outputs = super().forward(prepared)
            seen.add((self.training, outputs.dtype))
            return outputs

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        assert outputs.dtype == torch.float32
        return LabelLoss()(outputs, targets)

    net = Watched()
    net.load_state_dict(network().state_dict())
    result = train(tmp_path, net, loss=loss, recipe=recipe(epochs=8, precision=precision))
    assert seen == {(True, inside), (False, torch.float32)}
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.float32, torch.int64}
    assert result.best.accuracy > 0.8


@pytest.mark.parametrize(("precision", "fused"), [("float32", True), ("bfloat16", False)])
def test_attention_in_bfloat16_on_a_cpu_is_not_the_fused_one_of_a_slow_gradient(
    tmp_path: Path, precision: str, fused: bool
) -> None:
    seen: set[str] = set()

    class Attentive(Net):
        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            rows = super().forward(prepared)[:, None, None]
            found = nn.functional.scaled_dot_product_attention(rows, rows, rows)
            if found.grad_fn is not None:
                seen.add(found.grad_fn.name())
            return found[:, 0, 0]

    train(tmp_path, Attentive(), recipe=recipe(epochs=1, precision=precision))
    assert seen
    assert {name.startswith("ScaledDotProduct") for name in seen} == {fused}


def _scaled(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Scale gradients as for float16, which no CPU computes in here, in float32 steps."""

    def gradient_scaler(*_: Any) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", **changes)

    monkeypatch.setattr("students.stepping.gradient_scaler", gradient_scaler)


def test_scaled_gradients_give_the_steps_of_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale is a power of two: clipping and the step see the same numbers."""
    plan = recipe(clip=0.5)
    train(tmp_path / "plain", recipe=plan)
    _scaled(monkeypatch)
    train(tmp_path / "scaled", recipe=plan)
    for name, tensor in weights(tmp_path / "plain").items():
        torch.testing.assert_close(weights(tmp_path / "scaled")[name], tensor, msg=name)


def test_the_scale_falls_while_gradients_are_too_large_and_survives_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2^127 times 64 is more than float32 holds: the first steps are skipped."""
    _scaled(monkeypatch, init_scale=2.0**127)
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return 64 * LabelLoss()(outputs, targets)

    train(whole, loss=loss)
    before = network().state_dict()["last.weight"]
    assert not torch.equal(weights(whole)["last.weight"], before)
    calls = iter(range(1000))

    def stopping(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        if next(calls) == 13:
            raise InterruptedError
        return loss(outputs, targets)

    with pytest.raises(InterruptedError):
        train(cut, loss=stopping, checkpoint_seconds=0.0)
    _, state = read_tensors(cut / "checkpoints" / "last.safetensors")
    assert state["scaler"]["scale"] < 2.0**127
    train(cut, loss=loss, checkpoint_seconds=0.0)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(cut)[name], tensor), name


def test_a_gradient_that_no_scale_helps_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scaled(monkeypatch)

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return (outputs * 0).abs().sqrt().sum()

    with pytest.raises(DivergedError, match="the gradient became nan at step 1 of 8 in epoch 5"):
        train(tmp_path, loss=loss, recipe=recipe(epochs=9))


def test_gradients_that_are_too_large_now_and_then_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale doubles after every good step, so that about every other step is skipped."""
    _scaled(monkeypatch, init_scale=2.0**127, growth_interval=1)

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return 64 * LabelLoss()(outputs, targets)

    result = train(tmp_path, loss=loss, recipe=recipe(epochs=10))
    assert result.last_epoch == 10
    assert not torch.equal(weights(tmp_path)["last.weight"], network().state_dict()["last.weight"])


def test_a_loss_that_is_not_finite_stops_whatever_the_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scaled(monkeypatch)

    def loss(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return outputs.sum() * math.inf

    with pytest.raises(DivergedError, match=r"the loss became .* at step 1 of 8 in epoch 1"):
        train(tmp_path, loss=loss)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "auto"])
def test_a_gpu_learns_in_half_precision(tmp_path: Path, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    result = train(tmp_path, recipe=recipe(epochs=12, precision=precision), device="cuda")
    assert result.best.accuracy > 0.8


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_network_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Without dropout, whose mask a compiler draws another way."""
    compiled: list[nn.Module] = []
    compile_ = torch.compile

    def compile_once(net: nn.Module) -> Any:
        compiled.append(net)
        return compile_(net, backend=backend)

    monkeypatch.setattr(torch, "compile", compile_once)
    nets = [network(), network()]
    for name, net in zip(("plain", "compiled"), nets, strict=True):
        net.get_submodule("layers.4").p = 0.0  # type: ignore[assignment]
        # BatchNorm takes this bias away again: its gradient is rounding, and so are its steps
        net.get_parameter("layers.0.bias").requires_grad_(False)
        plan = recipe(epochs=1, compile=name == "compiled", learning_rate=1e-3)
        result = train(tmp_path / name, net, recipe=plan)
        assert result.notes == ()
    assert compiled == [nets[1]]
    assert weights(tmp_path / "plain").keys() == weights(tmp_path / "compiled").keys()
    for name, tensor in weights(tmp_path / "plain").items():
        found = weights(tmp_path / "compiled")[name]
        torch.testing.assert_close(found, tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_where_nothing_compiles_it_says_so_and_learns_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def compile_(net: nn.Module) -> Any:
        def broken(prepared: dict[str, Tensor]) -> Tensor:
            net(prepared)  # has changed BatchNorm's statistics already
            raise BackendCompilerFailed(compile_, OSError("no C++ compiler"), None)

        return broken

    train(tmp_path / "plain")
    monkeypatch.setattr(torch, "compile", compile_)
    told: list[str] = []
    result = train(tmp_path / "not", recipe=recipe(compile=True), on_note=told.append)
    assert told == list(result.notes)
    assert len(told) == 1
    assert told[0].startswith("torch.compile failed, so the network runs as it is: ")
    assert "no C++ compiler" in told[0]
    for name, tensor in weights(tmp_path / "plain").items():
        assert torch.equal(weights(tmp_path / "not")[name], tensor), name
