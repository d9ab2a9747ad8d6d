"""The CPU's own kernels against PyTorch's, dropout against its statistics, the step against a plain
one."""

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_torch import kernels
from cifar_torch.model import CifarNet, apply_max_norm
from cifar_torch.processes import Processes
from cifar_torch.recipes import get_recipe
from cifar_torch.step import FlatNet, make_optimizer, make_step

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])

# ------------------------------------------------------------------------------------- dropout


def dropped(
    shape: tuple[int, ...], p: float, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Which of so many ones dropout sets to zero."""
    bits = np.random.SFC64(seed)
    return kernels.ReLUDropout.apply(torch.ones(shape, dtype=dtype), bits, round(p * 65536)) == 0


def assert_share(mask: Tensor, p: float) -> None:
    """The share of set elements is `p`, within five standard deviations."""
    assert abs(mask.double().mean().item() - p) < 5 * math.sqrt(p * (1 - p) / mask.numel())


@BOTH
@pytest.mark.parametrize("p", [0.05, 0.2, 0.5, 0.9])
def test_dropout_drops_its_share(p, dtype):
    mask = dropped((1_000_003,), p, dtype=dtype)
    assert_share(mask, round(p * 65536) / 65536)


@BOTH
def test_dropout_keeps_what_is_positive_times_one_over_the_share_kept(dtype):
    x = torch.randn(8, 32, 16, 16).to(dtype).contiguous(memory_format=torch.channels_last)
    drop = round(0.2 * 65536)
    out = kernels.ReLUDropout.apply(x.clone(), np.random.SFC64(0), drop)
    kept = out != 0
    scaled = x * (65536 / (65536 - drop))  # rounded once, as PyTorch's own
    assert torch.equal(out[kept], scaled[kept])
    assert (x[kept] > 0).all()
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert not out[x <= 0].any()
    assert_share(~kept[x > 0], drop / 65536)


def test_neighbours_are_dropped_independently():
    p = 0.2
    mask = dropped((500, 2000), p)
    for distance in (1, 2, 3, 4, 5, 8, 16, 32, 64):  # 4: one draw of 64 bits decides four
        assert_share(mask[:, distance:] & mask[:, :-distance], p * p)
    for rows in (1, 2, 128):
        assert_share(mask[rows:] & mask[:-rows], p * p)
    by_row, by_column = mask.double().mean(dim=1), mask.double().mean(dim=0)
    for shares, count in ((by_row, 2000), (by_column, 500)):
        assert shares.std().item() == pytest.approx(math.sqrt(p * (1 - p) / count), rel=0.15)


def test_calls_layers_and_steps_are_independent():
    p, shape, bits = 0.2, (200_000,), np.random.SFC64(7)
    masks = [
        kernels.ReLUDropout.apply(torch.ones(shape), bits, round(p * 65536)) == 0 for _ in range(4)
    ]
    network = CifarNet(dropout=p)
    for step in (0, 1, 2):  # as the training loop seeds them: the run's seed, the step, the rank
        network.seed_dropout(0, step, 0)
        masks.append(network.train().layers[1](torch.ones(shape)) == 0)
        masks.append(network.layers[5](torch.ones(shape)) == 0)
    for i, a in enumerate(masks[1:]):
        for b in masks[: i + 1]:
            assert_share(a & b, round(p * 65536) / 65536 * p)
    network.seed_dropout(0, 2, 0)
    assert torch.equal(network.layers[1](torch.ones(shape)) == 0, masks[-2])


@BOTH
def test_gradient_of_dropout_is_its_mask_times_the_scale(dtype):
    leaf = torch.randn(4, 16, 8, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    leaf.requires_grad_()
    out = kernels.ReLUDropout.apply(leaf * 1, np.random.SFC64(0), 13107)
    gradient = torch.randn_like(out)
    out.backward(gradient.clone())
    wanted = torch.where(out > 0, gradient * (65536 / (65536 - 13107)), 0)
    torch.testing.assert_close(leaf.grad, wanted, rtol=0, atol=0)


# ------------------------------------------------------------------------------------- pooling


def plain_relu_max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(F.relu(x), 2)


@BOTH
def test_pooling_and_its_gradient_are_pytorchs(dtype):
    values = torch.stack([torch.randperm(64) - 32 for _ in range(64)])  # no two are equal
    values = values.view(4, 16, 8, 8).to(dtype)
    values[0] = -values[0].abs()  # nothing but negative
    results = []
    for function in (
        plain_relu_max_pool,
        lambda x: kernels.ReLUMaxPool.apply(kernels.channels_last(x)),
    ):
        leaf = values.clone().requires_grad_()
        out = function(leaf * 1)
        out.backward(torch.arange(out.numel()).view(out.shape).to(dtype) / 100 - 3)
        results.append((out.detach(), leaf.grad))
    (wanted, wanted_gradient), (out, gradient) = results
    assert torch.equal(out, wanted)
    assert torch.equal(gradient, wanted_gradient)
    assert torch.equal(kernels.relu_max_pool(values.clone()), wanted)


@BOTH
def test_the_first_of_equals_gets_the_whole_gradient(dtype):
    """The first counts down the left column, then down the right one."""
    square = torch.ones(1, 1, 2, 2, dtype=dtype)
    for changes, winner in (((), 0), ((0,), 2), ((0, 2), 1), ((0, 1, 2), 3)):
        leaf = square.clone()
        leaf.view(-1)[list(changes)] = 0.5
        leaf.requires_grad_()
        kernels.ReLUMaxPool.apply(kernels.channels_last(leaf * 1)).sum().backward()
        assert leaf.grad.flatten().tolist() == [float(i == winner) for i in range(4)]


def test_a_process_without_images_of_the_last_batch_has_zero_gradients():
    network = CifarNet().to(memory_format=torch.channels_last).train()
    network(torch.empty(0, 3, 32, 32, dtype=torch.uint8)).sum().backward()
    assert all(not p.grad.any() for p in network.parameters())


@BOTH
@pytest.mark.parametrize("dropout", [1e-9, 0.999999])
def test_dropping_nearly_nothing_or_everything_gives_numbers(dropout, dtype):
    network = CifarNet(dropout=dropout).to(dtype).train()
    assert network(torch.zeros(2, 3, 32, 32)).isfinite().all()


# ---------------------------------------------------------------------------------- whole steps

IMAGES = torch.randint(
    0, 256, (256, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = IMAGES.float().mean(dim=(2, 3)).argmax(dim=1)  # the channel with the most light
STEPS = 20


def batches() -> list[Tensor]:
    """The images of each of STEPS batches of 8."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, len(LABELS), (8,), generator=generator) for _ in range(STEPS)]


def our_curve(dropout: float, dtype: torch.dtype, seed: int = 0, **knobs: Any) -> list[float]:
    """The loss of every step of the project's own step."""
    recipe = get_recipe("report", dropout=dropout, **knobs)
    weights = FlatNet(start())
    for layer in weights.network.layers:
        if isinstance(layer, nn.Dropout):
            layer.p = dropout
    optimizer = make_optimizer(weights, recipe)
    step = make_step(weights, optimizer, recipe, dtype, Processes(torch.device("cpu")))
    return [
        step(IMAGES[i], LABELS[i], LABELS[i], len(i), recipe.lr, (seed, number)).tolist()[0]
        / len(i)
        for number, i in enumerate(batches())
    ]


def start() -> CifarNet:
    torch.manual_seed(0)
    return CifarNet(3).to(memory_format=torch.channels_last)


def plain_network(own: CifarNet, dropout: float) -> nn.Sequential:
    """The same weights in nothing but PyTorch's own layers."""
    layers: list[nn.Module] = []
    for layer in own.layers:
        if isinstance(layer, nn.Dropout):
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        elif isinstance(layer, nn.MaxPool2d):
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


@cache
def plain_curve(dropout: float, seed: int = 0, **knobs: Any) -> list[float]:
    """The same in float32 with nothing but PyTorch's own layers and optimizer."""
    own = start()
    network, recipe = plain_network(own, dropout), get_recipe("report", **knobs)
    kernels, biases = (
        [p for p in network.parameters() if (p.ndim > 1) == k] for k in (True, False)
    )
    optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": biases}],
        recipe.lr,
        recipe.momentum,
        nesterov=recipe.nesterov,
    )
    torch.manual_seed(seed)
    losses = []
    for i in batches():
        optimizer.zero_grad()
        logits = network(IMAGES[i] / 255)
        loss = F.cross_entropy(logits, LABELS[i], label_smoothing=recipe.label_smoothing)
        loss.backward()
        optimizer.step()
        for layer in (own.layers.dense, own.layers.dense_1):
            apply_max_norm(layer.weight)
        losses.append(loss.item())
    return losses


def distance(a: list[float], b: list[float]) -> float:
    """Root mean square of the difference of two loss curves."""
    return float(np.sqrt(np.mean((np.array(a) - np.array(b)) ** 2)))


KNOBS = [{}, {"nesterov": True}, {"weight_decay": 0.1}, {"label_smoothing": 0.2}]


@pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: next(iter(knobs), "report"))
def test_loss_curve_without_dropout_is_plain_pytorchs(knobs):
    plain = plain_curve(0, **knobs)
    assert distance(our_curve(0, torch.float32, **knobs), plain) < 1e-3
    if knobs:
        assert distance(plain, plain_curve(0)) > 3e-3  # so that it would be seen
    else:
        assert distance(our_curve(0, torch.bfloat16), plain) < 1e-2


@BOTH
def test_loss_curve_with_dropout_differs_by_no_more_than_seeds_do(dtype):
    plain = [plain_curve(0.2, seed) for seed in range(3)]
    limit = 1.5 * max(distance(a, b) for a, b in pairwise(plain))  # each is one draw of many

    def from_plain(dropout: float, seed: int) -> float:
        return distance(our_curve(dropout, dtype, seed), plain[seed])

    assert max(from_plain(0.2, 0), from_plain(0.2, 1)) < limit
    assert limit < from_plain(0.5, 0)  # so that it would be seen


@BOTH
def test_dropout_of_a_step_spreads_the_loss_as_pytorchs_does(dtype):
    """Of weights that stay as they are, over the draws of dropout alone."""
    i, times, recipe = torch.arange(4), 50, get_recipe("report")
    weights = FlatNet(start())
    optimizer = make_optimizer(weights, recipe)
    step = make_step(weights, optimizer, recipe, dtype, Processes(torch.device("cpu")))
    ours = [
        step(IMAGES[i], LABELS[i], LABELS[i], 4, 0.0, (0, n)).tolist()[0] / 4 for n in range(times)
    ]
    network = plain_network(start(), 0.2)
    torch.manual_seed(0)
    with torch.no_grad():
        plain = [F.cross_entropy(network(IMAGES[i] / 255), LABELS[i]).item() for _ in range(times)]
    assert np.std(ours) == pytest.approx(np.std(plain), rel=0.3)
    assert abs(np.mean(ours) - np.mean(plain)) < 4 * np.std(plain) * (2 / times) ** 0.5
