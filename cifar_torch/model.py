"""The report's network, layer by layer, and its max-norm constraint."""

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from cifar_torch import kernels

MAX_NORM_LAYERS, LAST = ("dense", "dense_1"), "dense_2"
SETTINGS = ("num_classes", "dropout", "mean", "std")


class ReLUDropout(nn.Dropout):
    """ReLU of the layer before, then dropout."""

    def __init__(self, p: float):
        super().__init__(p)
        self.bits: np.random.SFC64 | None = None  # where a CPU's dropout comes from

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 0:
            return x  # of several processes, one may have no image of the last batch
        if self.training and self.p and kernels.available(x):
            drop = min(max(1, round(self.p * 65536)), 65535)
            bits = self.bits or np.random.SFC64(int(torch.randint(2**62, ())))
            return kernels.ReLUDropout.apply(kernels.channels_last(x), bits, drop)
        x = F.relu(x, inplace=_may_change(self))
        return F.dropout(x, self.p) if self.training else x


class ReLUMaxPool(nn.MaxPool2d):
    """ReLU of the layer before, and 2x2 max pooling."""

    def __init__(self) -> None:
        super().__init__(kernel_size=2)

    def forward(self, x: Tensor) -> Tensor:
        if not kernels.available(x):
            return super().forward(F.relu(x, inplace=_may_change(self)))
        if not torch.is_grad_enabled():
            return kernels.relu_max_pool(x)
        if self.training and x.dtype == torch.bfloat16:
            return kernels.ReLUMaxPool.apply(kernels.channels_last(x))
        # The other way round is the same, and 4% of a step faster.
        return F.relu(super().forward(kernels.channels_last(x)), inplace=True)


def _may_change(layer: nn.Module) -> bool:
    """Whether a layer's input may be changed: Grad-CAM asks it for its gradient."""
    return layer.training or not torch.is_grad_enabled()


class CifarNet(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="cifar-torch",
    license="apache-2.0",
    pipeline_tag="image-classification",
    tags=["cifar10", "image-classification"],
):
    """Conv-Dropout-Conv-Pool x3, Dense 1024/512/`num_classes`: 2,915,114 weights for ten classes.

    Takes images (N, 3, 32, 32), uint8 or already on the scale 0..255, and gives logits
    (N, num_classes). The normalisation, (pixels / 255 - mean) / std by channel, is its own. Layers
    have the names of the Keras original; the ReLU of a layer is done by the layer after it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        num_classes: int = 10,
        dropout: float = 0.2,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ):
        super().__init__()
        self.num_classes, self.dropout = num_classes, dropout
        self.mean, self.std = list(mean), list(std)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv2d=_conv(3, 32),
            dropout=ReLUDropout(dropout),
            conv2d_1=_conv(32, 32),
            max_pooling2d=ReLUMaxPool(),
            conv2d_2=_conv(32, 64),
            dropout_1=ReLUDropout(dropout),
            conv2d_3=_conv(64, 64),
            max_pooling2d_1=ReLUMaxPool(),
            conv2d_4=_conv(64, 128),
            dropout_2=ReLUDropout(dropout),
            conv2d_5=_conv(128, 128),
            max_pooling2d_2=ReLUMaxPool(),
            flatten=nn.Flatten(),
            dropout_3=ReLUDropout(dropout),
            dense=nn.Linear(2048, 1024),
            dropout_4=ReLUDropout(dropout),
            dense_1=nn.Linear(1024, 512),
            dropout_5=ReLUDropout(dropout),
            dense_2=nn.Linear(512, num_classes),
        )
        self.layers = nn.Sequential(layers)
        # Settings, not weights: config.json keeps them.
        self.register_buffer("scale", 1 / (255 * _channels(std)), persistent=False)
        self.register_buffer("shift", -_channels(mean) / _channels(std), persistent=False)
        self.reset_parameters()

    def reset_parameters(self, init: str = "glorot") -> None:
        """Keras's start, Glorot-uniform kernels, or He-normal ones; zero biases."""
        for layer in self.layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                if init == "he":
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.get_parameter("bias"))

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network like this one."""
        return {name: getattr(self, name) for name in SETTINGS}

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) on the scale 0..255 as the first layer takes them."""
        return images * self.scale + self.shift

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.normalise(images).to(next(self.parameters()).dtype))

    def in_precision(self, dtype: torch.dtype) -> "CifarNet":
        """A copy that computes in `dtype`; the normalisation of the pixels stays float32."""
        network = deepcopy(self).to(dtype)
        network.scale, network.shift = self.scale, self.shift
        return network

    def seed_dropout(self, *seeds: int) -> None:
        """Draw all dropout on a CPU from these seeds. Elsewhere, and on a CPU until this is called,
        torch.manual_seed is in charge."""
        bits = np.random.SFC64(list(seeds))
        for layer in self.layers:
            if isinstance(layer, ReLUDropout):
                layer.bits = bits

    def constrained_weights(self) -> list[Tensor]:
        """The kernels of the two hidden dense layers, (out, in), which max-norm acts on."""
        return [getattr(self.layers, name).weight for name in MAX_NORM_LAYERS]


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)


def _channels(values: Sequence[float]) -> Tensor:
    # On the CPU even where the weights are to be made without memory, as to be loaded.
    return torch.tensor(values, dtype=torch.float32, device="cpu").view(1, 3, 1, 1)


@torch.no_grad()
def apply_max_norm(weight: Tensor, limit: float = 3.0) -> None:
    """Keras's MaxNorm in place: each unit's incoming weights, a row of (out, in), to an L2 norm of
    at most `limit`."""
    norm = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    weight.mul_(norm.clamp(max=limit) / (1e-7 + norm))
