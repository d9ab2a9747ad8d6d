"""One optimizer step, as fast as the device allows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cifar_torch.model import CifarNet, apply_max_norm
from cifar_torch.processes import Processes
from cifar_torch.recipes import Recipe

# (images, targets, labels, images in the global batch, learning rate, seeds of a CPU's dropout)
# -> summed loss and right answers. Targets are labels (N,) or probabilities (N, classes).
Step = Callable[[Tensor, Tensor, Tensor, int, float, tuple[int, ...]], Tensor]
Update = Callable[[Tensor, Tensor, Tensor, int], Tensor]


class FlatNet:
    """A network whose kernels lie in one vector and whose biases in another; its parameters are
    parts of these. Optimizer, cast and average touch 2 tensors, not 18: 10% of a step of 32."""

    def __init__(self, network: CifarNet):
        self.network = network
        self.kernels = [p for p in network.parameters() if p.ndim > 1]
        self.biases = [p for p in network.parameters() if p.ndim == 1]
        self.parameters = self.kernels + self.biases
        self.vectors = [_flatten(self.kernels), _flatten(self.biases)]

    def pieces_of(self, vectors: list[Tensor]) -> list[Tensor]:
        """Pieces of other vectors as large as these, in the shapes of `parameters`."""
        kernels, biases = vectors
        return _split(kernels, self.kernels) + _split(biases, self.biases)


def _flatten(parameters: list[nn.Parameter]) -> Tensor:
    vector = parameters[0].new_zeros(sum(map(_room, parameters)))
    for parameter, view in zip(parameters, _split(vector, parameters), strict=True):
        view.copy_(parameter.data)
        parameter.data = view
    return vector


def _split(vector: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    pieces = vector.split([_room(p) for p in parameters])
    return [_shaped(v[: p.numel()], p.shape) for v, p in zip(pieces, parameters, strict=True)]


def _room(parameter: Tensor) -> int:
    return -(-parameter.numel() // 32) * 32  # every parameter begins on a cache line


def _shaped(piece: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) != 4:
        return piece.view(shape)
    out, inputs, height, width = shape
    return piece.view(out, height, width, inputs).permute(0, 3, 1, 2)  # channels last in memory


def make_optimizer(weights: FlatNet, recipe: Recipe) -> torch.optim.SGD:
    """SGD with momentum; weight decay acts on the kernels, not on the biases."""
    device = weights.vectors[0].device
    for vector in weights.vectors:
        vector.grad = torch.zeros_like(vector)
    optimizer = torch.optim.SGD(
        [
            {"params": [vector], "weight_decay": decay}
            for vector, decay in zip(weights.vectors, (recipe.weight_decay, 0.0), strict=True)
        ],
        # A tensor, so that a captured CUDA graph reads the rate of the step that it replays.
        lr=torch.tensor(float(recipe.lr), device=device) if device.type == "cuda" else recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=device.type in ("cpu", "cuda"),  # one pass over the weights instead of three
    )
    for vector in weights.vectors:
        optimizer.state[vector]["momentum_buffer"] = torch.zeros_like(vector)
    return optimizer


def make_step(
    weights: FlatNet,
    optimizer: torch.optim.SGD,
    recipe: Recipe,
    dtype: torch.dtype,
    processes: Processes,
) -> Step:
    """The function that takes one optimizer step on this process's share of a global batch.

    The weights stay float32; in bf16 a copy of the network computes, made anew after every step.
    """
    device, model = processes.device, weights.network
    worker = weights if dtype == torch.float32 else FlatNet(model.in_precision(dtype))
    worker.network.train()
    layers: nn.Module = worker.network.layers
    if processes.count > 1:
        layers = DistributedDataParallel(layers)  # without the buffers, which never change
    gradients = weights.pieces_of([_gradient(vector) for vector in weights.vectors])

    def eager_update(images: Tensor, targets: Tensor, labels: Tensor, global_count: int) -> Tensor:
        logits = layers(worker.network.normalise(images).to(dtype)).float()
        loss = F.cross_entropy(
            logits, targets, label_smoothing=recipe.label_smoothing, reduction="sum"
        )
        # The mean over the global batch, which DistributedDataParallel divides by its processes.
        (loss * (processes.count / global_count)).backward()
        with torch.no_grad():
            torch._foreach_copy_(gradients, [_gradient(p) for p in worker.parameters])
            worker.network.zero_grad()
            optimizer.step()
            if recipe.max_norm:
                for weight in model.constrained_weights():
                    apply_max_norm(weight, recipe.max_norm)
            if worker is not weights:
                torch._foreach_copy_(worker.vectors, weights.vectors)
        return torch.stack([loss.detach(), (logits.argmax(dim=1) == labels).sum()])

    update: Update = eager_update
    if device.type == "cuda" and processes.count == 1:
        update = _captured(eager_update, recipe.batch_size)

    def step(
        images: Tensor,
        targets: Tensor,
        labels: Tensor,
        global_count: int,
        lr: float,
        seeds: tuple[int, ...],
    ) -> Tensor:
        if device.type == "cpu":
            worker.network.seed_dropout(*seeds)
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        return update(images, targets, labels, global_count)

    return step


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("a weight took no part in the loss")
    return parameter.grad


def _captured(update: Update, batch_size: int) -> Update:
    """`update` as a CUDA graph for whole batches: one launch instead of some hundred. The
    first steps and a smaller last batch run as usual."""
    warm_up, graph = 3, torch.cuda.CUDAGraph()
    side_stream = torch.cuda.Stream()
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def graphed(images: Tensor, targets: Tensor, labels: Tensor, global_count: int) -> Tensor:
        nonlocal warm_up
        if len(labels) != batch_size:
            return update(images, targets, labels, global_count)
        if warm_up:
            warm_up -= 1
            side_stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side_stream):
                sums = update(images, targets, labels, global_count)
            torch.cuda.current_stream().wait_stream(side_stream)
            return sums
        if not outputs:
            inputs.extend((images.clone(), targets.clone(), labels.clone()))
            with torch.cuda.graph(graph, stream=side_stream):  # records the work, does not do it
                outputs.append(update(inputs[0], inputs[1], inputs[2], global_count))
        for static, new in zip(inputs, (images, targets, labels), strict=True):
            static.copy_(new)
        graph.replay()
        return outputs[0]

    return graphed
