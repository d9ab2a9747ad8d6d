"""One optimizer step, as fast as the device allows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cifar_torch.device import autocast
from cifar_torch.model import CifarNet, apply_max_norm
from cifar_torch.processes import Processes
from cifar_torch.recipes import Recipe

AVERAGE_EVERY = 8  # steps: the moving average then costs an eighth of the time, and is as good

# (images, labels, images in the global batch, learning rate) -> summed loss and right answers
Step = Callable[[Tensor, Tensor, int, float], Tensor]


def make_optimizer(model: CifarNet, recipe: Recipe) -> torch.optim.SGD:
    """SGD with momentum; weight decay acts on the kernels, not on the biases."""
    device = next(model.parameters()).device
    kernels = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [
            {"params": kernels, "weight_decay": recipe.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ],
        # A tensor, so that a captured CUDA graph reads the rate of the step that it replays.
        lr=torch.tensor(recipe.lr, device=device) if device.type == "cuda" else recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=device.type in ("cpu", "cuda"),
    )
    for weight in model.parameters():
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def make_step(
    model: CifarNet,
    optimizer: torch.optim.SGD,
    recipe: Recipe,
    dtype: torch.dtype,
    processes: Processes,
) -> Step:
    """The function that takes one optimizer step on this process's share of a global batch."""
    device = processes.device
    network = model if processes.count == 1 else DistributedDataParallel(model)

    def update(images: Tensor, labels: Tensor, global_count: int) -> Tensor:
        with autocast(device, dtype):
            logits = network(images).float()
        loss = F.cross_entropy(
            logits, labels, label_smoothing=recipe.label_smoothing, reduction="sum"
        )
        # The mean over the global batch: DistributedDataParallel divides by the processes once more.
        (loss * (processes.count / global_count)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if recipe.max_norm:
            for weight in model.constrained_weights():
                apply_max_norm(weight, recipe.max_norm)
        return torch.stack([loss.detach(), (logits.argmax(dim=1) == labels).sum()])

    if device.type == "cuda" and processes.count == 1:
        update = _captured(update, recipe.batch_size)

    def step(images: Tensor, labels: Tensor, global_count: int, lr: float) -> Tensor:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        return update(images, labels, global_count)

    return step


def _captured(
    update: Callable[[Tensor, Tensor, int], Tensor], batch_size: int
) -> Callable[[Tensor, Tensor, int], Tensor]:
    """`update` as a CUDA graph for whole batches: one launch instead of some hundred, which is all
    that a batch of 32 takes on a large GPU. The first steps, and a smaller last batch, run as usual.
    """
    warm_up, graph = 3, torch.cuda.CUDAGraph()
    side_stream = torch.cuda.Stream()
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def graphed(images: Tensor, labels: Tensor, global_count: int) -> Tensor:
        nonlocal warm_up
        if len(labels) != batch_size:
            return update(images, labels, global_count)
        if warm_up:
            warm_up -= 1
            side_stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side_stream):
                sums = update(images, labels, global_count)
            torch.cuda.current_stream().wait_stream(side_stream)
            return sums
        if not outputs:
            inputs.extend((images.clone(), labels.clone()))
            with torch.cuda.graph(graph):  # records the work, does not do it
                outputs.append(update(*inputs, global_count))
        for static, new in zip(inputs, (images, labels), strict=True):
            static.copy_(new)
        graph.replay()
        return outputs[0]

    return graphed
