"""BatchNorm statistics by NumPy, as the network's own and as those of one request."""

import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from students.nested.errors import CalibrationError, OtherSurgeryError
from students.nested.norms import NormStatistics, load_norms, measure_norms, using_norms


def images(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 + 3.0 * torch.randn(rows, 3, 4, 4, generator=generator)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 2, 3),
        nn.Dropout(0.5),
        nn.BatchNorm2d(2),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.BatchNorm1d(4),
    ).train()


def norm_of(net: nn.Module, name: str) -> _BatchNorm:
    norm = net.get_submodule(name)
    assert isinstance(norm, _BatchNorm)
    return norm


def test_statistics_are_numpys_over_all_rows_of_batches_of_any_size() -> None:
    batches = [images(5, 0), images(2, 1), images(9, 2) + 50]
    found = measure_norms(network(), batches)
    rows = torch.cat(batches).double().numpy().swapaxes(0, 1).reshape(3, -1)
    np.testing.assert_allclose(found.of["0"][0], rows.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.of["0"][1], rows.var(axis=1, ddof=1), rtol=1e-6)
    assert list(found.of) == ["0", "3", "6"]


def test_of_one_batch_they_are_what_torch_itself_would_keep() -> None:
    net, batch = network().eval(), images(6, 0)
    found = measure_norms(net, [batch])
    plain = network().eval()
    norms = {name: norm_of(plain, name) for name in ("0", "3", "6")}
    for norm in norms.values():
        norm.momentum = None  # a cumulative average
        norm.train()
    plain(batch)
    for name, norm in norms.items():
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        np.testing.assert_allclose(found.of[name][0], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.of[name][1], variance, rtol=1e-5)


def test_measuring_changes_nothing_and_draws_no_dropout() -> None:
    net = network()
    net[3].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    once, again = (measure_norms(net, [images(4, 0)]) for _ in range(2))
    for name, pair in once.of.items():
        np.testing.assert_array_equal(pair[0], again.of[name][0])
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor, before[name])
    assert [module.training for module in net] == [True, True, True, False, True, True, True]
    with pytest.raises(RuntimeError):
        measure_norms(net, [images(4, 0), torch.zeros(2, 2, 4, 4)])
    assert int(net.get_buffer("0.num_batches_tracked")) == 0
    assert net[0].training
    assert not any(module._forward_pre_hooks for module in net)


def loaded(statistics: NormStatistics, batch: Tensor) -> Tensor:
    net = network().eval()
    load_norms(net, statistics)
    found: Tensor = net(batch).detach()
    return found


def test_a_request_has_its_own_statistics_and_other_threads_those_of_the_network() -> None:
    batch = images(3, 9)
    first, second = (
        measure_norms(network(), [images(8, seed) * scale]) for seed, scale in ((1, 1.0), (2, 4.0))
    )
    net = network().eval()
    load_norms(net, first)
    elsewhere: list[Tensor] = []
    with torch.no_grad():
        with using_norms(net, second):
            inside = net(batch)
            with using_norms(net, first):
                nested = net(batch)
            thread = threading.Thread(target=lambda: elsewhere.append(net(batch).detach()))
            thread.start()
            thread.join()
            again = net(batch)
        after = net(batch)
    np.testing.assert_allclose(inside, loaded(second, batch), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(again, inside)
    assert np.abs(inside - after).max() > 0.1
    for found in (nested, elsewhere[0], after):
        np.testing.assert_allclose(found, loaded(first, batch), rtol=1e-4, atol=1e-5)


def test_blocks_do_not_pile_up_hooks_and_training_is_left_alone() -> None:
    net = network().eval()
    statistics = measure_norms(net, [images(8, 1)])
    for _ in range(3):
        with using_norms(net, statistics):
            pass
    assert [len(net[at]._forward_pre_hooks) for at in (0, 3, 6)] == [1, 1, 1]
    net.train()
    net[2].eval()
    batch = images(4, 3)
    with using_norms(net, statistics):
        inside = net(batch)
    np.testing.assert_array_equal(inside.detach(), net(batch).detach())


def test_tensors_there_and_back() -> None:
    statistics = measure_norms(network(), [images(8, 1)])
    tensors = statistics.tensors()
    assert sorted(tensors)[:2] == ["0.mean", "0.variance"]
    back = NormStatistics.from_tensors(tensors)
    for name, pair in statistics.of.items():
        for ours, theirs in zip(pair, back.of[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_timms_norms_with_their_activation_are_understood() -> None:
    layers = pytest.importorskip("timm.layers")
    net = nn.Sequential(layers.BatchNormAct2d(3)).eval()
    batch = images(5, 0)
    statistics = measure_norms(net, [batch])
    with torch.no_grad(), using_norms(net, statistics):
        inside = net(batch)
    load_norms(net, statistics)
    np.testing.assert_allclose(inside, net(batch).detach(), atol=1e-5)


def test_a_network_without_batch_norm_reads_no_batches() -> None:
    assert not measure_norms(nn.Linear(2, 2), iter([])).of


def test_what_says_nothing_is_refused() -> None:
    net = network()
    with pytest.raises(CalibrationError, match="0: no calibration batch reaches this BatchNorm"):
        measure_norms(net, [])
    with pytest.raises(CalibrationError, match="6: a batch with one number of a channel"):
        measure_norms(net, [images(1, 0)])
    with pytest.raises(CalibrationError, match="0: NaN or infinity"):
        measure_norms(net, [images(4, 0) * float("nan")])


def test_statistics_of_another_network_are_refused_whole() -> None:
    net = network()
    statistics = measure_norms(net, [images(8, 1)])
    fewer = NormStatistics(of={name: statistics.of[name] for name in ("0", "3")})
    narrow = NormStatistics(of={**statistics.of, "6": (torch.zeros(2), torch.ones(2))})
    with pytest.raises(OtherSurgeryError, match="BatchNorm '6' is in the network alone"):
        load_norms(net, fewer)
    with (
        pytest.raises(OtherSurgeryError, match=r"6: the statistics are of 2 channels and.* has 4"),
        using_norms(net, narrow),
    ):
        pass
    assert float(net.get_buffer("0.running_mean").abs().max()) == 0.0
