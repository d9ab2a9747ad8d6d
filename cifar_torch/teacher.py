"""Knowledge distillation: stronger networks, trained first on the same images, whose answers the
small one learns."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from cifar_torch.augmentation import MIRRORED, Augmentation
from cifar_torch.cache import cache_folder, read_cache, write_cache
from cifar_torch.data import Split
from cifar_torch.errors import ReasonedError

VERSION = 2  # counts the changes of the teachers' training: cached answers of before are not taken
SEED = 20_240_404  # the same teachers for every run on the same images
TEACHERS = 2  # whose mean is better than either
VIEWS = 8  # of each image that the teachers look at, each with an augmentation of its own
OWN = Augmentation(crop_padding=2, flip=True)  # in the teachers' own training
BATCH = 1000
MIN_STEPS = 45  # an epoch, with smaller batches where there are few images

Normalise = Callable[[Tensor], Tensor]


class TeacherNet(nn.Module):
    """The network of Jordan's airbench (arXiv 2404.00498): a fixed whitening layer, and three
    blocks of two convolutions with batch normalisation. 2.0 million weights, and three times the
    work of CifarNet. Normalised images (N, 3, 32, 32) -> logits (N, num_classes)."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.whitening = nn.Conv2d(3, 24, kernel_size=2)
        self.whitening.weight.requires_grad_(False)
        nn.init.zeros_(self.whitening.get_parameter("bias"))
        self.layers = nn.Sequential(
            nn.GELU(),
            *_block(24, 64),
            *_block(64, 256),
            *_block(256, 256),
            nn.MaxPool2d(3),
            nn.Flatten(),
            nn.Linear(256, num_classes, bias=False),
        )

    def whiten(self, images: Tensor, epsilon: float = 5e-4) -> None:
        """Make the first kernels the principal components of the images' 2x2 patches, scaled to
        variance one, and their negatives."""
        patches = F.unfold(images.cpu(), 2).transpose(1, 2).reshape(-1, 12).double()
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        kernels = (components / (variances + epsilon).sqrt()).T.reshape(12, 3, 2, 2)
        self.whitening.weight.data.copy_(torch.cat([kernels, -kernels]))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.whitening(images)) / 9


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        _convolution(channels_in, channels_out),
        nn.MaxPool2d(2),
        _normalisation(channels_out),
        nn.GELU(),
        _convolution(channels_out, channels_out),
        _normalisation(channels_out),
        nn.GELU(),
    ]


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:channels_in])  # the first channels begin as copies
    return layer


def _normalisation(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


class _Optimizer:
    """airbench's: SGD on a loss that is summed, whose rate rises fast and falls slowly, and every
    five steps, and at the end, a step back to the moving average of the weights. The constants are
    airbench's, but for the rate of the whitening layer's bias, which is that of all biases here."""

    def __init__(self, network: nn.Module, batch: int, steps: int):
        """For `steps` steps of `batch` images."""
        self.steps = steps
        momentum, scale = 0.85, 1024 * (1 + 1 / (1 - 0.85))
        rate, decay = 11.5 / scale, 0.0153 * batch / scale
        trained = [p for p in network.parameters() if p.requires_grad]
        kernels, biases = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim == 1]
        self.rates = rate, rate * 64
        self.sgd = torch.optim.SGD(
            [
                {"params": params, "lr": lr, "weight_decay": decay / lr}
                for params, lr in zip((kernels, biases), self.rates, strict=True)
            ],
            momentum=momentum,
            nesterov=True,
        )
        self.values = [v for v in network.state_dict().values() if v.is_floating_point()]
        self.average = [v.clone() for v in self.values]
        momenta = [torch.zeros_like(p) for p in trained]
        for parameter, buffer in zip(trained, momenta, strict=True):
            self.sgd.state[parameter]["momentum_buffer"] = buffer
        self.tensors = [*self.values, *self.average, *momenta]  # all that a resumed run needs

    def step(self, loss: Tensor, done: int) -> None:
        """The step after `done` others."""
        share = done / self.steps
        rising = share < 0.23
        part = 0.2 + 0.8 * share / 0.23 if rising else 1 - 0.93 * (share - 0.23) / 0.77
        for group, lr in zip(self.sgd.param_groups, self.rates, strict=True):
            group["lr"] = lr * part
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        if done % 5 == 4 or done + 1 == self.steps:
            torch._foreach_lerp_(self.average, self.values, 1 - 0.95**5 * share**3)
            torch._foreach_copy_(self.values, self.average)


@dataclass
class Teachers:
    """TEACHERS networks that are trained on `images`, `epochs` each. Their answers are kept in
    files that every run on the same images finds. Of the `augmentation` they see all but the
    cut-outs.

    `before_step` is called with the number of epochs done by all of them; it may raise, and the
    training goes on from that epoch another time.
    """

    images: Split
    fingerprint: str  # of the images
    num_classes: int
    normalise: Normalise
    epochs: int
    augmentation: Augmentation
    dtype: torch.dtype
    before_step: Callable[[int], None] = lambda epoch: None

    @property
    def seen(self) -> Augmentation:
        return replace(self.augmentation, cutout=0)

    def answers(self) -> Tensor:
        """Their mean probabilities (VIEWS, N, num_classes) float16 for the views of `draw_view`.

        Raises UserError: they could not learn these images.
        """
        answers = [self._answers_of(number) for number in range(TEACHERS)]
        return torch.stack(answers).float().mean(dim=0).half()

    def _answers_of(self, number: int) -> Tensor:
        path = self._file(f"answers-{number}", astuple(self.seen))
        found = read_cache(path)
        answers = [*found[0]["answers"]] if found else []
        if len(answers) < VIEWS:
            network = self._train(number)
            for view in range(len(answers), VIEWS):
                answers.append(self._look(number, network, view))
                if not answers[-1].isfinite().all():
                    raise ReasonedError(
                        "teachers",
                        "the teachers cannot learn these images; train without: --teacher 0.",
                    )
                write_cache(path, {"answers": torch.stack(answers)})
        return torch.stack(answers[:VIEWS])

    def _file(self, name: str, *more: object) -> Path:
        """Where what is made of these images and settings, and of `more`, is kept."""
        settings = [VERSION, self.epochs, self.num_classes, str(self.dtype), *more]
        normalised = self.normalise(self.images.images[:1])  # as an example of how it is done
        made_of = json.dumps([self.fingerprint, normalised.tolist(), *settings])
        key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        return cache_folder() / f"teacher-{name}-{key}.safetensors"

    def _train(self, number: int) -> TeacherNet:
        """One of them, trained; kept epoch by epoch."""
        path = self._file(f"weights-{number}")
        images, device = self.images, self.images.labels.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED + number)
            network = TeacherNet(self.num_classes).to(device)
        network.to(memory_format=torch.channels_last)
        network.whiten(self.normalise(images.images[:: max(1, len(images) // 5000)]))
        batch = min(BATCH, max(16, len(images) // MIN_STEPS), len(images))
        steps = len(images) // batch  # of an epoch; the rest of the images waits for another
        optimizer = _Optimizer(network, batch, steps * self.epochs)
        first = _resume(path, optimizer.tensors)
        for epoch in tqdm(
            range(first, self.epochs),
            f"Teacher {number + 1}/{TEACHERS}",
            self.epochs,
            initial=first,
            unit="epoch",
            leave=False,
            disable=None,
        ):
            generator = torch.Generator().manual_seed(SEED + TEACHERS * epoch + number)
            order = torch.randperm(len(images), generator=generator).to(device)
            draws = OWN.draw(len(images), generator)
            # Each is mirrored in every other epoch.
            draws[:, MIRRORED] = (torch.arange(len(images)) + epoch) % 2
            draws = draws.to(device)
            network.whitening.get_parameter("bias").requires_grad_(
                epoch < max(1, self.epochs * 3 // 10)
            )
            network.train()
            for i, chosen in enumerate(order[: steps * batch].split(batch)):
                self.before_step(number * self.epochs + epoch)
                logits = self._logits(network, OWN(images.images, draws, chosen))
                loss = F.cross_entropy(
                    logits, images.labels[chosen], label_smoothing=0.2, reduction="sum"
                )
                optimizer.step(loss, epoch * steps + i)
            state = {str(i): t for i, t in enumerate(optimizer.tensors)}
            write_cache(path, state, epoch=str(epoch + 1))
        return network

    def _logits(self, network: TeacherNet, images: Tensor) -> Tensor:
        images = self.normalise(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, self.dtype, self.dtype != torch.float32):
            return network(images).float()

    @torch.inference_mode()
    def _look(self, number: int, network: TeacherNet, view: int) -> Tensor:
        """Its probabilities (N, num_classes) float16 for a view of each image."""
        network.eval()
        images, answers = self.images.images, []
        draws = draw_view(view, len(images), self.seen).to(images.device)
        batches = torch.arange(len(images), device=images.device).split(BATCH)
        for chosen in tqdm(batches, f"Its view {view + 1}/{VIEWS}", leave=False, disable=None):
            self.before_step((number + 1) * self.epochs - 1)
            logits = self._logits(network, self.seen(images, draws, chosen))
            answers.append(logits.softmax(dim=1).half())
        return torch.cat(answers).cpu()


@lru_cache(maxsize=VIEWS)  # which every epoch asks for again
def draw_view(view: int, count: int, augmentation: Augmentation) -> Tensor:
    """What is drawn for one of the VIEWS of `count` images, (count, 11)."""
    return augmentation.draw(count, torch.Generator().manual_seed(SEED - 1 - view))


def _resume(path: Path, state: list[Tensor]) -> int:
    """Put a training's values into `state`; the epochs that it had done."""
    found = read_cache(path)
    if not found:
        return 0
    tensors, meta = found
    for i, tensor in enumerate(state):
        tensor.copy_(tensors[str(i)])
    return int(meta["epoch"])
