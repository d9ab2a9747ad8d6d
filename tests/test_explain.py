"""explain.py: the numbers that the app shows are the numbers that the network computes."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cifar_torch.explain import convolution_at, grad_cam, layer_outputs, window_at
from cifar_torch.model import CifarNet


@pytest.fixture(scope="module")
def model() -> CifarNet:
    torch.manual_seed(0)
    model = CifarNet(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
    for layer in ("conv2d", "conv2d_3"):
        torch.nn.init.normal_(model.layers.get_submodule(layer).bias, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_the_last_output_is_the_networks_answer_and_no_activation_is_negative(model, pixels):
    outputs = layer_outputs(model, pixels)
    answer = model(torch.from_numpy(pixels).permute(2, 0, 1)[None]).softmax(dim=1)[0]
    torch.testing.assert_close(outputs["dense_2"], answer)
    assert all(values.min() >= 0 for name, values in outputs.items() if name != "input")


@pytest.mark.parametrize("layer", ["conv2d", "conv2d_3", "conv2d_5"])
@pytest.mark.parametrize("place", [(0, 0), (3, 5), (7, 7)])
def test_a_convolution_gives_the_value_in_the_feature_map(model, pixels, layer, place):
    outputs = layer_outputs(model, pixels)
    found = convolution_at(model, outputs, layer, 4, *place)
    assert found.output == pytest.approx(outputs[layer][4][place].item(), abs=1e-4)
    assert found.products.shape == found.kernel.shape == found.patch.shape


def test_a_patch_at_the_corner_has_zeros_over_the_border(model, pixels):
    patch = convolution_at(model, layer_outputs(model, pixels), "conv2d", 0, 0, 0).patch
    assert patch[:, 0].count_nonzero() == patch[:, :, 0].count_nonzero() == 0
    assert patch[:, 1:, 1:].count_nonzero() > 0


def test_a_pooling_keeps_the_largest_value_of_its_window(model, pixels):
    outputs = layer_outputs(model, pixels)
    for row, column in ((0, 0), (2, 5), (7, 7)):
        window = window_at(model, outputs, "max_pooling2d_1", 9, row, column)
        assert window.shape == (2, 2)
        assert window.max() == outputs["max_pooling2d_1"][9, row, column]


def test_grad_cam_finds_the_corner_that_the_class_looks_at():
    """A network built so that class 7 is the brightness of the top left, class 2 of the bottom
    right: Grad-CAM must light up there, whatever else is in the picture."""
    model = CifarNet().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for name in ("conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4", "conv2d_5"):
            model.layers.get_submodule(name).weight[0, 0, 1, 1] = 1
        dense, dense_1, dense_2 = (
            model.layers.get_submodule(f"dense{n}") for n in ("", "_1", "_2")
        )
        top_left, bottom_right = 0, 15  # of the first channel's 4x4, flattened
        dense.weight[0, top_left] = dense.weight[1, bottom_right] = 1
        dense_1.weight[0, 0] = dense_1.weight[1, 1] = 1
        dense_2.weight[7, 0] = dense_2.weight[2, 1] = 1
        dense_2.weight[5, 0] = -1
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    heat = grad_cam(model, pixels, label=7)
    assert heat.shape == (32, 32)
    assert heat.max() == 1
    assert heat[:8, :8].mean() > 0.5
    assert heat[16:, 16:].max() == 0
    assert grad_cam(model, pixels, label=3).max() == 0  # no unit speaks for class 3
    assert grad_cam(model, pixels, label=5).max() == 0  # one speaks against class 5


def test_grad_cam_leaves_the_model_as_it_was_and_works_from_many_threads(model, pixels):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    expected = grad_cam(model, pixels, 5)
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(grad_cam(model, pixels, 5))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.allclose(heat, expected) for heat in found)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_feature_maps_are_the_layers_own(model, pixels):
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = F.relu(model.layers.conv2d(model.normalise(x)))[0]
    torch.testing.assert_close(layer_outputs(model, pixels)["conv2d"], expected)
