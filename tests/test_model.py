"""The network against the report's table, and max-norm against Keras's formula."""

import math

import pytest
import torch

from cifar_torch import kernels
from cifar_torch.model import CifarNet, ReLUDropout, apply_max_norm
from cifar_torch.summary import layer_rows, summary_table

REPORT = [  # figure 16 of the report
    ("conv2d", "Conv2D", (32, 32, 32), 896),
    ("dropout", "Dropout", (32, 32, 32), 0),
    ("conv2d_1", "Conv2D", (32, 32, 32), 9_248),
    ("max_pooling2d", "MaxPooling2D", (16, 16, 32), 0),
    ("conv2d_2", "Conv2D", (16, 16, 64), 18_496),
    ("dropout_1", "Dropout", (16, 16, 64), 0),
    ("conv2d_3", "Conv2D", (16, 16, 64), 36_928),
    ("max_pooling2d_1", "MaxPooling2D", (8, 8, 64), 0),
    ("conv2d_4", "Conv2D", (8, 8, 128), 73_856),
    ("dropout_2", "Dropout", (8, 8, 128), 0),
    ("conv2d_5", "Conv2D", (8, 8, 128), 147_584),
    ("max_pooling2d_2", "MaxPooling2D", (4, 4, 128), 0),
    ("flatten", "Flatten", (2048,), 0),
    ("dropout_3", "Dropout", (2048,), 0),
    ("dense", "Dense", (1024,), 2_098_176),
    ("dropout_4", "Dropout", (1024,), 0),
    ("dense_1", "Dense", (512,), 524_800),
    ("dropout_5", "Dropout", (512,), 0),
    ("dense_2", "Dense", (10,), 5_130),
]


@pytest.mark.parametrize("row", range(len(REPORT)), ids=[row[0] for row in REPORT])
def test_layer_is_the_reports(row):
    found = layer_rows(10)[row]
    assert (found.name, found.kind, found.shape, found.parameters) == REPORT[row]


def test_summary_has_a_line_a_layer_and_the_reports_totals():
    lines = summary_table(CifarNet()).splitlines()
    assert len(layer_rows(10)) == len(REPORT)
    assert lines[2].split() == ["conv2d", "(Conv2D)", "(None,", "32,", "32,", "32)", "896"]
    assert lines[-3:] == [
        "Total params: 2,915,114 (11.12 MB)",
        "Trainable params: 2,915,114 (11.12 MB)",
        "Non-trainable params: 0 (0.00 B)",
    ]


def test_kernels_start_glorot_uniform_and_biases_zero():
    torch.manual_seed(0)
    layers = CifarNet().layers
    for name, fans in (("conv2d_3", 9 * 64 + 9 * 64), ("dense", 2048 + 1024)):
        limit, weight = math.sqrt(6 / fans), layers.get_submodule(name).weight
        assert weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)  # uniform's
        assert not layers.get_submodule(name).bias.any()


def test_the_network_is_the_reports_computed_plainly():
    """Against conv-relu-(dropout)-conv-relu-pool written out with PyTorch's own functions."""
    torch.manual_seed(0)
    model = CifarNet().eval()
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    x, functional = images / 255, torch.nn.functional
    names = [name for name, layer in model.layers.named_children() if hasattr(layer, "weight")]
    for i, name in enumerate(names):
        x = model.layers.get_submodule(name)(x)
        if i < 8:
            x = functional.relu(x)
        if i in (1, 3, 5):
            x = functional.max_pool2d(x, 2)
        if i == 5:
            x = x.flatten(1)
    torch.testing.assert_close(model(images), x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_devices_without_our_kernels_get_the_same_gradients(monkeypatch, layout):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    gradients = []
    for ours in (True, False):
        monkeypatch.setattr(kernels, "available", lambda x, ours=ours: ours)
        torch.manual_seed(1)
        model = CifarNet(dropout=0).train().to(memory_format=layout)
        model(images).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_devices_without_our_kernels_drop_out_too(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda x: False)
    layer, x = ReLUDropout(0.25).train(), torch.ones(100_000, requires_grad=True)
    dropped = layer(x * 1)
    dropped.sum().backward()
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(dropped.detach(), x.grad)  # kept ones are 1 / 0.75, and so is their gradient


def test_outside_of_the_training_loop_torchs_seed_rules_dropout():
    network = CifarNet(dropout=0.5).train()

    def dropped(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        names = ("dropout", "dropout_1")
        return [getattr(network.layers, name)(torch.ones(1, 32, 8, 8)) == 0 for name in names]

    first, second = dropped(1)
    assert not torch.equal(first, second)
    assert torch.equal(first, dropped(1)[0]) and not torch.equal(first, dropped(2)[0])


def test_normalisation_is_the_networks_own():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    found = CifarNet(mean=mean, std=std).normalise(images)
    wanted = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(found, wanted)


def test_max_norm_is_keras_formula_on_the_incoming_weights_of_each_unit():
    torch.manual_seed(0)
    weight = torch.randn(6, 40) * torch.tensor([0.1, 0.3, 0.47, 0.5, 1, 5])[:, None]
    kernel = weight.numpy().T.astype("float64")  # Keras: (in, out), the norm over axis 0
    norm = (kernel**2).sum(axis=0, keepdims=True) ** 0.5
    wanted = kernel * (norm.clip(0, 3) / (1e-7 + norm))
    apply_max_norm(weight, 3.0)
    torch.testing.assert_close(weight, torch.tensor(wanted.T, dtype=torch.float32))
    assert weight.norm(dim=1).max() <= 3 * (1 + 1e-6)


def test_only_the_hidden_dense_layers_are_constrained():
    model = CifarNet()
    shapes = [tuple(weight.shape) for weight in model.constrained_weights()]
    assert shapes == [(1024, 2048), (512, 1024)]


def test_hub_mixin_round_trip(tmp_path):
    model = CifarNet(num_classes=4, dropout=0.1, mean=[0.5] * 3, std=[0.25] * 3).eval()
    model.save_pretrained(tmp_path / "net")
    again = CifarNet.from_pretrained(tmp_path / "net")
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(again(images), model(images), rtol=0, atol=0)
    assert again.settings() == model.settings()
