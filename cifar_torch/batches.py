"""What the network sees, batch by batch, and what it is to answer."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_torch.augmentation import CENTRE, OTHER, Augmentation
from cifar_torch.data import Split
from cifar_torch.errors import UserError
from cifar_torch.outliers import add_outliers
from cifar_torch.processes import Processes
from cifar_torch.recipes import Recipe
from cifar_torch.teacher import Normalise, Teachers, draw_view

CHUNK = 8192  # images that a GPU augments at once; launching it for every batch would cost more


class Batches:
    """The training images of a run on their device, the recipe's outliers behind them, and the
    batches that an epoch makes of them."""

    def __init__(self, images: Split, recipe: Recipe, seed: int, processes: Processes):
        """Raises UserError: batches that the processes cannot share."""
        if recipe.batch_size % processes.count:
            raise UserError(
                f"batch size {recipe.batch_size} cannot be divided by {processes.count} processes."
            )
        self.recipe, self.seed, self.processes = recipe, seed, processes
        self.augmentation = Augmentation.of(recipe)
        self.known = len(images)  # what follows them are outliers, of none of the classes
        self.fingerprint = images.fingerprint()
        if recipe.outliers:
            images = add_outliers(images, recipe.outliers, seed)
        self.images, self.count = images.to(processes.device), len(images)
        self.steps = -(-self.count // recipe.batch_size)  # of an epoch

    def prepare(
        self,
        num_classes: int,
        normalise: Normalise,
        dtype: torch.dtype,
        before_step: Callable[[int], None],
    ) -> None:
        """Make the targets, by view and image, a view an epoch: labels (1, N), or probabilities
        (views, N, num_classes). Of the teachers, if the recipe has any: see `Teachers`."""
        recipe, known = self.recipe, self.images[: self.known]
        if not (recipe.teacher or recipe.outliers or recipe.mixup):
            self.targets = known.labels[None]
            return
        if recipe.teacher:
            teachers = Teachers(
                known, self.fingerprint, num_classes, normalise, recipe.teacher, self.augmentation,
                dtype, before_step,
            )  # fmt: skip
            answers = self.processes.from_first(teachers.answers)
            targets = answers.to(self.processes.device)
        else:
            targets = F.one_hot(known.labels, num_classes)[None].half()
        of_outliers = (len(targets), self.count - self.known, num_classes)
        self.targets = torch.cat([targets, targets.new_full(of_outliers, 1 / num_classes)], 1)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """This process's share of each global batch of an epoch: images, targets and labels. The
        order and the augmentation depend on the seed and the epoch alone (with teachers the view
        depends on the epoch alone), so that a resumed run sees what it would have."""
        recipe, generator = self.recipe, torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        processes, batch = self.processes, recipe.batch_size
        order = torch.randperm(self.count, generator=generator)
        draws = self.augmentation.draw(self.count, generator)
        view = epoch % len(self.targets)
        if recipe.teacher:  # what the teacher has seen, but for the cut-outs; it saw no outliers
            seen = draw_view(view, self.known, self.augmentation)
            draws[: self.known, : CENTRE.start] = seen[:, : CENTRE.start]
            draws[self.known :, OTHER] = torch.arange(self.known, self.count)
        order, draws = order.to(processes.device), draws.to(processes.device)
        # One batch at a time for several processes: one of them may have no image of the last.
        alone_on_gpu = processes.device.type == "cuda" and processes.count == 1
        chunk = batch * max(1, CHUNK // batch) if alone_on_gpu else batch
        for start in range(first_step * batch, self.count, chunk):
            mine = processes.share(order[start : start + chunk])
            targets, labels = self.targets[view, mine], self.images.labels[mine]
            images = self.augmentation(self.images.images, draws, mine)
            if targets.is_floating_point():
                targets = targets.float()
            if recipe.mixup and not recipe.teacher:  # which answers for the mixture
                others, parts = self.augmentation.mixed_in(draws[mine])
                targets = torch.lerp(targets, self.targets[view, others].float(), parts[:, None])
            own = batch // processes.count
            yield from zip(*(t.split(own) for t in (images, targets, labels)), strict=True)
