"""What happens inside the network for one picture: its feature maps, one convolution, Grad-CAM."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar_torch.images import IMAGE_SIZE
from cifar_torch.model import CifarNet

INPUT = "input"
LAST_CONVOLUTION = "conv2d_5"


@dataclass(frozen=True)
class Convolution:
    """One kernel applied at one place: the output is relu(sum of `patch` * `kernel` + `bias`).

    `patch` and `kernel` are (channels, 3, 3); `patch` is zero where it reaches over the border.
    """

    patch: Tensor
    kernel: Tensor
    bias: float

    @property
    def products(self) -> Tensor:
        """(channels, 3, 3)"""
        return self.patch * self.kernel

    @property
    def total(self) -> float:
        """Before the ReLU."""
        return self.products.sum().item() + self.bias

    @property
    def output(self) -> float:
        return max(0.0, self.total)


@torch.inference_mode()
def layer_outputs(model: CifarNet, pixels: np.ndarray) -> dict[str, Tensor]:
    """What each layer makes of one picture (32, 32, 3) uint8, after its activation function.

    The values are (channels, height, width) or (units,); those of "input" are the picture as the
    first layer takes it, those of the last layer are probabilities.
    """
    x = model.normalise(_batch(pixels))
    outputs = {INPUT: x[0]}
    for name, layer in model.layers.named_children():
        x = layer(x)
        outputs[name] = _activated(model, layer, x)[0]
    return outputs


def inputs_of(model: CifarNet, layer: str) -> str:
    """The name of what `layer` takes in: the layer before it, or "input"."""
    names = [INPUT, *dict(model.layers.named_children())]
    return names[names.index(layer) - 1]


def convolution_at(
    model: CifarNet, outputs: dict[str, Tensor], layer: str, channel: int, row: int, column: int
) -> Convolution:
    """How `layer`, a convolution, computes its output `channel` at one place."""
    module = model.layers.get_submodule(layer)
    if not isinstance(module, nn.Conv2d) or module.bias is None:
        raise ValueError(f"{layer} is not a convolution with a bias")
    padded = F.pad(outputs[inputs_of(model, layer)], (1, 1, 1, 1))
    patch = padded[:, row : row + 3, column : column + 3]
    return Convolution(patch, module.weight[channel].detach(), module.bias[channel].item())


def window_at(
    model: CifarNet, outputs: dict[str, Tensor], layer: str, channel: int, row: int, column: int
) -> Tensor:
    """The (2, 2) window of which `layer`, a max pooling, keeps the largest value at one place."""
    before = outputs[inputs_of(model, layer)][channel]
    return before[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]


def grad_cam(model: CifarNet, pixels: np.ndarray, label: int) -> np.ndarray:
    """Where in the picture the network sees class `label`: (32, 32) in [0, 1], by Grad-CAM.

    The feature maps of the last convolution, weighted by how much the class's logit grows with each
    (Selvaraju et al., arXiv 1610.02391).
    """
    cut = 1 + list(dict(model.layers.named_children())).index(LAST_CONVOLUTION)
    with torch.no_grad():
        features = F.relu(model.layers[:cut](model.normalise(_batch(pixels))))
    with torch.enable_grad():
        features.requires_grad_()
        logit = model.layers[cut:](features)[0, label]
        (gradient,) = torch.autograd.grad(logit, features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = F.relu((weights * features.detach()).sum(dim=1, keepdim=True))
    heat = F.interpolate(heat, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear")[0, 0]
    return (heat / heat.max().clamp(min=1e-12)).numpy()


def _batch(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]


def _activated(model: CifarNet, layer: nn.Module, x: Tensor) -> Tensor:
    """The ReLU of a layer is done by the layer after it, the softmax by the loss: do them here."""
    if layer is model.layers[-1]:
        return x.softmax(dim=1)
    return F.relu(x) if isinstance(layer, (nn.Conv2d, nn.Linear)) else x
