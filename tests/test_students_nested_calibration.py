"""Second moments of layer inputs against NumPy's, and what the hooks leave behind: nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from students.nested import calibration
from students.nested.calibration import Moment, call, second_moments
from students.nested.errors import CalibrationError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Reader(nn.Module):
    """Tokens -> rows of 4 numbers -> 3, then 2 of the first token; notes what its layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.hidden = nn.Linear(4, 3)
        self.dropout = nn.Dropout(0.5)
        self.pooled = nn.Linear(3, 2)
        self.seen: list[np.ndarray] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        rows = self.table(input_ids)
        self.seen.append(rows[attention_mask.bool()].detach().double().numpy())
        found: Tensor = self.pooled(self.dropout(self.hidden(rows))[:, 0])
        return found


def texts() -> list[dict[str, Tensor]]:
    long, hidden = torch.tensor([[1, 2, 3], [1, 5, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    short = {"input_ids": torch.tensor([[2, 0]]), "attention_mask": torch.tensor([[1, 0]])}
    return [{"input_ids": long, "attention_mask": hidden}, short]


def test_padding_is_left_out_and_tokens_are_counted_by_hand() -> None:
    torch.manual_seed(0)
    network = Reader()
    found = second_moments(network, ["pooled", "hidden", "table"], texts())
    np.testing.assert_array_equal(found["table"].sums, [0, 2, 2, 1, 0, 1])
    assert found["table"].rows == found["hidden"].rows == 6
    assert found["pooled"].rows == 3  # a row each, none of which the mask speaks of
    rows = np.concatenate(network.seen)
    np.testing.assert_allclose(found["hidden"].mean, rows.T @ rows / 6, rtol=1e-12)


def test_a_mask_inside_a_tuple_and_flattened_rows_are_understood() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, prepared: dict[str, Tensor]) -> Tensor:
            found: Tensor = self.layer(input=prepared["rows"].flatten(0, 1))  # by its name
            return found

    rows = drawn(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    found = second_moments(Flat(), ["layer"], [({"rows": rows, "attention_mask": mask},)])["layer"]
    kept = rows[mask.bool()].double()
    assert found.rows == 3
    np.testing.assert_allclose(found.sums, kept.T @ kept, rtol=1e-12)


def test_a_mask_of_another_shape_hides_nothing() -> None:
    class Unmasked(Reader):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            assert attention_mask.ndim == 4
            found: Tensor = self.hidden(self.table(input_ids))
            return found

    network, batch = Unmasked(), texts()[0]
    wide = {**batch, "attention_mask": torch.zeros(2, 1, 3, 3)}  # an additive one, of four axes
    assert second_moments(network, ["hidden"], [wide])["hidden"].rows == 6


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's, once
@pytest.mark.parametrize("at_once", [1, 1 << 26])
@pytest.mark.parametrize(
    "settings_of",
    [
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": (3, 2), "padding": (1, 0), "stride": (2, 1)},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": 2, "padding": "same"},
    ],
)
def test_patches_give_the_outputs_of_the_convolution(
    settings_of: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Σ outputs outputsᵀ = W (Σ x xᵀ) Wᵀ, for the flattened weight."""
    monkeypatch.setattr(calibration, "_PATCH_BYTES", at_once)
    layer = nn.Conv2d(3, 4, bias=False, **settings_of).double()
    images = drawn(5, 3, 7, 6).double()
    found = second_moments(nn.Sequential(layer), ["0"], [images[:3], images[3:]])["0"]
    with torch.no_grad():
        outputs = layer(images).transpose(0, 1).flatten(1)
    weight = layer.weight.detach().flatten(1)
    assert found.rows == outputs.shape[1]
    np.testing.assert_allclose(weight @ found.sums @ weight.T, outputs @ outputs.T, rtol=1e-10)


@settings(deadline=None)
@given(rows=st.integers(1, 30), parts=st.integers(1, 4), seed=st.integers(0, 99))
def test_moments_do_not_depend_on_the_batches_and_lose_no_digits(
    rows: int, parts: int, seed: int
) -> None:
    inputs = drawn(rows, 3, seed=seed) + 1e4
    network = nn.Sequential(nn.Linear(3, 2))
    found = second_moments(network, ["0"], inputs.chunk(parts))["0"]
    wide = inputs.double()
    np.testing.assert_allclose(found.mean, wide.T @ wide / rows, rtol=1e-13)


def test_a_layer_that_runs_twice_counts_both() -> None:
    layer = nn.Linear(2, 2, bias=False)
    network = nn.Sequential(layer, layer)
    inputs = drawn(4, 2)
    found = second_moments(network, ["0"], [inputs])["0"]
    with torch.no_grad():
        both = torch.cat([inputs, layer(inputs)]).double()
    assert found.rows == 8
    np.testing.assert_allclose(found.sums, both.T @ both, rtol=1e-6)


def hooks_of(network: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules())


def test_the_network_runs_in_evaluation_and_is_left_as_it_was() -> None:
    network = Reader().train()
    network.hidden.eval()
    second_moments(network, ["hidden"], texts())
    modes = {name: module.training for name, module in network.named_modules()}
    assert modes == {"": True, "table": True, "hidden": False, "dropout": True, "pooled": True}
    once, again = (second_moments(network, ["pooled"], texts())["pooled"] for _ in range(2))
    np.testing.assert_array_equal(once.sums, again.sums)  # no dropout
    assert hooks_of(network) == 0
    assert not once.sums.requires_grad


def test_hooks_and_modes_are_restored_when_the_network_fails() -> None:
    network = Reader().train()
    with pytest.raises(IndexError):
        second_moments(network, ["hidden"], [{**texts()[0], "input_ids": torch.tensor([[9]])}])
    with pytest.raises(CalibrationError):
        second_moments(network, ["hidden", "hiden"], texts())
    assert hooks_of(network) == 0
    assert all(module.training for module in network.modules())


# --- what is refused ------------------------------------------------------------------------------


def test_nan_is_told_of_the_first_layer_that_reads_it() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        network.get_parameter("0.weight")[1, 1] = float("inf")
    with pytest.raises(CalibrationError, match=r"^1: NaN or infinity among what it reads"):
        second_moments(network, ["2", "1", "0"], [drawn(3, 2)])
    bad = drawn(3, 2)
    bad[1, 0] = float("nan")
    with pytest.raises(CalibrationError, match=r"^0: NaN or infinity"):
        second_moments(network, ["2", "1", "0"], [drawn(3, 2), bad])


def test_what_says_nothing_is_refused() -> None:
    network = Reader()
    with pytest.raises(CalibrationError, match="there are no calibration batches"):
        second_moments(network, ["hidden"], [])
    with pytest.raises(CalibrationError, match="no layer is called 'hiden'; did you mean 'hidden'"):
        second_moments(network, ["hiden"], texts())
    aside = nn.ModuleDict({"used": nn.Linear(2, 2), "aside": nn.Linear(2, 2)})
    aside.forward = aside["used"].forward
    with pytest.raises(CalibrationError, match="aside: no calibration batch reaches this layer"):
        second_moments(aside, ["aside"], [drawn(3, 2)])
    hidden = {**texts()[0], "attention_mask": torch.zeros(2, 3)}
    with pytest.raises(CalibrationError, match="hidden: no calibration batch reaches this layer"):
        second_moments(network, ["hidden"], [hidden])


def test_a_batch_is_what_a_network_is_called_with() -> None:
    class Sum(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left + right

    one = torch.ones(1)
    for batch in ((one, one), [one, one], {"left": one, "right": one}):
        assert float(call(Sum(), batch)) == 2.0
    assert float(call(nn.Identity(), one)) == 1.0
    with pytest.raises(CalibrationError, match=r"a batch is a tensor, or a mapping.*got a str"):
        call(nn.Identity(), "text")


def test_a_moment_is_a_mean() -> None:
    np.testing.assert_array_equal(
        Moment(rows=4, sums=torch.full((1, 1), 2.0).double()).mean, [[0.5]]
    )
