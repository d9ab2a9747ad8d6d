"""The table of the network's layers, as Keras prints it (figure 16 of the report)."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from cifar_torch.images import IMAGE_SIZE
from cifar_torch.model import CifarNet

KERAS_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "Conv2D",
    nn.Dropout: "Dropout",
    nn.MaxPool2d: "MaxPooling2D",
    nn.Flatten: "Flatten",
    nn.Linear: "Dense",
}


def keras_kind(layer: nn.Module) -> str:
    """The name of Keras's class for a layer of the network."""
    return next(kind for base, kind in KERAS_KINDS.items() if isinstance(layer, base))


@dataclass(frozen=True)
class LayerRow:
    """A layer: its Keras name and kind, its output's shape without the batch, channels last as in
    Keras, and how many parameters it has."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


@cache
def layer_rows(num_classes: int) -> tuple[LayerRow, ...]:
    """The layers from the picture to the answer."""
    # Weights of no account need no random numbers; but to compute on the meta device would load a
    # compiler, 150 MB and a second, so that they are zeros.
    with torch.device("meta"):
        network = CifarNet(num_classes).eval()
    weights = {name: torch.zeros(w.shape) for name, w in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    rows, output = [], torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.inference_mode():
        for name, layer in network.layers.named_children():
            output = layer(output)
            _, channels, *size = output.shape
            parameters = sum(p.numel() for p in layer.parameters())
            rows.append(LayerRow(name, keras_kind(layer), (*size, channels), parameters))
    return tuple(rows)


def summary_table(model: CifarNet) -> str:
    """The report's figure 16: a line a layer and the totals."""
    rows = [
        (
            f"{row.name} ({row.kind})",
            f"(None, {', '.join(map(str, row.shape))})",
            f"{row.parameters:,}",
        )
        for row in layer_rows(model.num_classes)
    ]
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines = [
        f"{a:<32}{b:<24}{c:>12}" for a, b, c in [("Layer (type)", "Output Shape", "Param #"), *rows]
    ]
    lines.insert(1, "-" * 68)
    totals = [
        f"{name} params: {count:,} ({_size(4 * count)})"
        for name, count in (
            ("Total", total),
            ("Trainable", trainable),
            ("Non-trainable", total - trainable),
        )
    ]
    return "\n".join([*lines, "-" * 68, *totals])


def _size(count: int) -> str:
    return f"{count / 2**20:.2f} MB" if count >= 2**20 else f"{count:.2f} B"
