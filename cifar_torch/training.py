"""The training loop: fit, validate, stop and resume, on one process or several."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from cifar_torch.batches import Batches
from cifar_torch.card import write_card
from cifar_torch.checkpoint import (
    STATE,
    Checkpoint,
    check_destination,
    save_checkpoint,
    versions,
)
from cifar_torch.data import Data, Split
from cifar_torch.device import (
    PRECISION_NAMES,
    choose_precision,
    describe_hardware,
    out_of_memory_told,
    prepare_cpu,
)
from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.evaluation import (
    acceptance_threshold,
    energy,
    fit_temperature,
    log_probabilities,
    measure,
    predict_logits,
    wilson_interval,
)
from cifar_torch.figures import curves, save_figure
from cifar_torch.files import locked_folder
from cifar_torch.model import CifarNet
from cifar_torch.processes import Processes, join_processes
from cifar_torch.progress import OnProgress, Progress, Stopped, Watch, interruptions
from cifar_torch.recipes import Recipe
from cifar_torch.run import Run, difference
from cifar_torch.step import make_step
from cifar_torch.teacher import TEACHERS

SAVE_EVERY = 10.0  # seconds: writing and drawing take 0.5 s, an epoch on a GPU takes less than that
AGREE_EVERY = 20  # steps between two looks at whether another process was asked to stop
MIN_CALIBRATION = 100  # held-out images; fewer tell nothing of confidence
NOTHING_LEARNED = "It knows no more than somebody who guesses. More --epochs help, or a lower --lr"
START_FROM = ", or the weights of a network that knows something: --start-from checkpoints/best"


def train(
    data: Data | Callable[[], Data],
    recipe: Recipe,
    out: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    resume: bool = False,
    start_from: Checkpoint | None = None,
    on_progress: OnProgress | None = None,
) -> Checkpoint | None:
    """Train the network on `data`; `out` becomes a checkpoint folder, written after an epoch, at
    most every ten seconds, and at the end.

    The weights of `start_from` are trained on, with its normalisation, instead of random ones: all
    of them where `data` has the same classes, else all but the last layer's. `data` may be a
    function that loads it: of the processes of a machine, one calls it first. `on_progress` is
    called about twice a second; when it returns False, or on Ctrl-C, the run is saved where it
    stands and Stopped is raised. Under torchrun every process calls this; the first one writes, and
    it alone returns the checkpoint. Raises UserError.
    """
    prepare_cpu()
    with out_of_memory_told(), join_processes(device) as processes, ExitStack() as stack:
        going_on = processes.from_first(lambda: resume or processes.restarted)

        def claim() -> None:
            stack.enter_context(locked_folder(Path(out)))
            check_destination(Path(out), going_on, resume)

        processes.from_first(claim)
        loaded = processes.one_a_machine_first(data) if callable(data) else data
        trainer = Trainer(loaded, recipe, Path(out), processes, precision, seed, start_from)
        trainer.check_alike()
        if going_on:
            trainer.resume(required=resume)
        with interruptions(alone=processes.count == 1) as interrupted:
            return trainer.fit(Watch(on_progress, interrupted))


class Trainer:
    """One training run: what it trains with and on, and its `Run`, which is all that changes."""

    def __init__(
        self,
        data: Data,
        recipe: Recipe,
        out: Path,
        processes: Processes,
        precision: str,
        seed: int,
        start_from: Checkpoint | None = None,
    ):
        self.data, self.recipe, self.out, self.seed = data, recipe, out, seed
        self.processes, self.device = processes, processes.device
        self.last_saved = -math.inf
        # On a GPU too fp32 means float32, in convolutions as well, and bf16 is summed in float32.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        # The first one's, as machines may differ.
        self.dtype, self.why_precision = processes.from_first(
            lambda: choose_precision(precision, self.device)
        )
        self.precision = PRECISION_NAMES[self.dtype]
        training, validation = data.train, data.test
        if recipe.hold_out:
            training, validation = data.hold_out(recipe.hold_out)
        self.batches = Batches(training, recipe, seed, processes)
        self.validation = validation.to(self.device)
        self.test_fingerprint = data.test.fingerprint()
        self.steps = self.batches.steps
        self.started_from = start_from.title if start_from else None
        self.run = Run(make_model(data, recipe, seed, start_from).to(self.device), recipe)

    def say(self, text: str) -> None:
        if self.processes.first:
            with suppress(OSError):  # a full disk, or nobody who reads: the training goes on
                tqdm.write(text)

    def fit(self, watch: Watch) -> Checkpoint | None:
        """All epochs that are still to do. Raises Stopped."""
        self.say(f"Training on {self.device} in {self.precision} ({self.why_precision}).")
        try:
            self.prepare(watch)
        except Stopped:
            self.save(finished=False)
            raise
        for epoch in range(self.run.step // self.steps, self.recipe.epochs):
            if not self.train_epoch(epoch, watch):
                self.check_finite(epoch, self.run.sums[0].item())
                self.save(finished=False)
                raise Stopped(f"Stopped in epoch {epoch + 1} of {self.recipe.epochs}.")
            self.run.history.append(self.epoch_row(epoch))
            self.run.seconds = 0.0
            self.run.sums.zero_()
            last = epoch + 1 == self.recipe.epochs
            checkpoint = self.save(finished=last, can_wait=not last)
            self.say(describe_epoch(self.run.history[-1], self.recipe.epochs))
        if self.guesses():
            self.say(NOTHING_LEARNED + ("." if self.started_from else f"{START_FROM}."))
        return checkpoint

    def guesses(self) -> bool:
        """Whether the network is hardly better, in its confidence, than one that is equally sure of
        all classes, and no better than one that always gives the commonest answer."""
        last, labels = self.run.history[-1], self.validation.labels
        count = len(labels)
        right = round(last["val_accuracy"] * count)
        one_answer = labels.bincount().max().item() / count
        unsure = last["val_loss"] > 0.99 * math.log(len(self.data.class_names))
        return unsure and wilson_interval(right, count)[0] <= one_answer

    def prepare(self, watch: Watch) -> None:
        """What comes before the first step. Raises Stopped."""
        run, classes = self.run, len(self.data.class_names)
        self.processes.copy_from_first(run.tensors().values())
        check = partial(self.before_teacher_step, watch)
        self.batches.prepare(classes, run.result.normalise, self.dtype, check)
        run.sums /= self.processes.count  # of a resumed epoch; they are added up at its end
        self.take_step = make_step(
            run.weights, run.optimizer, self.recipe, self.dtype, self.processes
        )

    def before_teacher_step(self, watch: Watch, epoch: int) -> None:
        """Raises Stopped."""
        epochs = self.recipe.teacher * TEACHERS
        if watch.wants_stop(lambda: Progress(epoch + 1, epochs, teaching=True)):
            raise Stopped(f"Stopped in epoch {epoch + 1} of {epochs} of the teachers.")

    def train_epoch(self, epoch: int, watch: Watch) -> bool:
        """The steps of one epoch that are still to do; False if it was stopped before its end."""
        run, recipe, count = self.run, self.recipe, self.batches.count
        done = run.step - epoch * self.steps
        # Dropout on a GPU; a CPU's is seeded by step.
        keys = np.random.SeedSequence([self.seed, epoch, done, self.processes.rank])
        torch.manual_seed(int(keys.generate_state(1)[0]))
        bar = tqdm(
            total=self.steps,
            initial=done,
            desc=f"Epoch {epoch + 1}/{self.recipe.epochs}",
            unit="step",
            leave=False,
            disable=None if self.processes.first else True,
        )
        started = time.perf_counter() - run.seconds
        with bar:
            stopped = False
            for i, batch in enumerate(self.batches.epoch(epoch, done), done):
                stopped = self.asked_to_stop(epoch, i, watch)
                if stopped:
                    break
                global_count = min(recipe.batch_size, count - i * recipe.batch_size)
                lr = recipe.learning_rate(run.step, self.steps * recipe.epochs)
                seeds = (self.seed, run.step, self.processes.rank)
                run.sums += self.take_step(*batch, global_count, lr, seeds)
                run.step += 1
                run.update_average(recipe.averaging)
                bar.update()
        self.processes.sum(run.sums).tolist()  # tolist waits for the device
        run.seconds = time.perf_counter() - started
        return not stopped

    def asked_to_stop(self, epoch: int, i: int, watch: Watch) -> bool:
        """Whether any process is asked to stop before step `i` of an epoch."""
        if self.processes.count > 1 and i % AGREE_EVERY:
            return False
        return self.processes.any(watch.wants_stop(partial(self.progress, epoch, i)))

    def progress(self, epoch: int, i: int) -> Progress:
        """How far the run is, before step `i` of an epoch."""
        loss, hits = self.run.sums.tolist()
        seen = max(1, i * self.recipe.batch_size // self.processes.count)
        known = seen * self.batches.known / self.batches.count
        return Progress(
            epoch + 1, self.recipe.epochs, i, self.steps, loss / seen, min(1.0, hits / known),
            tuple(self.run.history),
        )  # fmt: skip

    def epoch_row(self, epoch: int) -> dict[str, float]:
        """The line of history.csv for the epoch that has just ended."""
        run, count = self.run, self.batches.count
        loss, hits = run.sums.tolist()
        val_loss, val_accuracy = self.validate(self.validation)
        self.check_finite(epoch, loss + val_loss)
        return {
            "epoch": epoch + 1,
            "accuracy": hits / self.batches.known,
            "loss": loss / count,
            "val_accuracy": val_accuracy,
            "val_loss": val_loss,
            "lr": self.recipe.learning_rate(run.step - 1, self.steps * self.recipe.epochs),
            "seconds": run.seconds,
            "images_per_second": count / run.seconds,
        }

    def check_finite(self, epoch: int, loss: float) -> None:
        """Raises UserError where loss or weights are no numbers any more."""
        # The weights themselves: ReLU on a CPU takes a negative NaN for 0.
        finite = all(vector.isfinite().all() for vector in self.run.weights.vectors)
        if not (finite and math.isfinite(loss)):
            raise ReasonedError(
                "no_number",
                f"the loss is no longer a number in epoch {epoch + 1}: the learning rate, or "
                f"another setting, is too high. Try a rate of {min(self.recipe.lr / 10, 0.01):g}.",
            )

    def validate(self, split: Split) -> tuple[float, float]:
        """Loss and accuracy of the network as it stands, each process on its share of `split`."""
        images, labels = self.processes.share(split.images), self.processes.share(split.labels)
        logits = predict_logits(
            self.run.result.in_precision(self.dtype), images, self.recipe.mirror
        )
        scores = log_probabilities(logits)
        loss = F.nll_loss(scores, labels, reduction="sum")
        sums = torch.stack([loss, (scores.argmax(dim=1) == labels).sum()])
        loss, hits = (self.processes.sum(sums) / len(split)).tolist()
        return loss, hits

    # ------------------------------------------------------------------------ saving, resuming

    def save(self, finished: bool, can_wait: bool = False) -> Checkpoint | None:
        """Write the checkpoint folder, with what a resumed run needs while there is one; where it
        `can_wait`, not if it was written a moment ago."""
        written: list[Checkpoint] = []

        def write() -> None:
            if can_wait and time.perf_counter() - self.last_saved < SAVE_EVERY:
                return
            checkpoint = self.checkpoint(finished)
            save_checkpoint(
                checkpoint, self.out, lambda folder: self.save_extras(folder, checkpoint)
            )
            written.append(checkpoint)
            self.last_saved = time.perf_counter()

        self.processes.from_first(write)
        return written[0] if written else None

    def save_extras(self, folder: Path, checkpoint: Checkpoint) -> None:
        if self.run.history:
            save_figure(curves(self.run.history), folder / "curves.png")
        write_card(checkpoint, folder)
        if not checkpoint.metrics["finished"]:
            self.run.save(folder, self.settings())

    def settings(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        return {
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "started_from": self.started_from,
            "mean": self.run.result.mean,
            "std": self.run.result.std,
            "class_names": list(self.data.class_names),
            "from_folder": self.data.from_folder,
            "train_images": self.batches.known,
            "images": f"fingerprint {self.batches.fingerprint}",
            "test_images": f"fingerprint {self.test_fingerprint}",
            "precision": self.precision,
        }

    def check_alike(self) -> None:
        """Raises UserError, in all processes: one would train otherwise than the first does."""
        settings = self.processes.gather(self.settings())
        for rank, others in enumerate(settings):
            if found := difference(settings[0], others):
                name, first, other = found
                raise UserError(
                    f"process {rank} has another {name} than the first ({other}, there {first}); "
                    "give all machines the same images and flags, beside --resume too."
                )

    def resume(self, required: bool) -> None:
        """Go on from the state in `out`, or from the start where none is there nor `required`.

        Raises UserError: there is no state, or one of another run.
        """
        run = self.run

        def load() -> dict[str, Any] | None:
            if not (required or (self.out / STATE).exists()):
                return None
            run.load(self.out, self.settings())
            return run.position

        position = self.processes.from_first(load)
        if position is None:
            return
        run.position = position
        self.say(f"Going on after step {run.step} of {self.steps * self.recipe.epochs}.")

    def checkpoint(self, finished: bool) -> Checkpoint:
        """The network as it is now, with all that is known of it."""
        recipe, data, run = self.recipe, self.data, self.run
        held_out = len(data.train) - self.batches.known
        model = run.result.in_precision(torch.float32).cpu().eval()
        config: dict[str, Any] = {
            "architecture": "CifarNet",
            "class_names": list(data.class_names),
            "mirror": recipe.mirror,
            "temperature": 1.0,
            "recipe": asdict(recipe),
            "seed": self.seed,
            "started_from": self.started_from,
            "precision": self.precision,
            "hardware": describe_hardware(self.device, self.processes.count),
            "data": {
                "origin": data.origin,
                "from_folder": data.from_folder,
                "train_images": self.batches.known,
                "held_out_images": held_out,
                "test_images": len(data.test),
                "test_fingerprint": self.test_fingerprint,
            },
            "versions": versions(),
        }
        metrics: dict[str, Any] = {
            "finished": finished,
            "epochs": len(run.history),
            "seconds": sum(row["seconds"] for row in run.history),
        }
        if finished:
            if held_out >= MIN_CALIBRATION:
                logits = predict_logits(run.result, self.validation.images, recipe.mirror).cpu()
                config["temperature"] = fit_temperature(logits, self.validation.labels.cpu())
                config["none_below"] = acceptance_threshold(energy(logits))
            images = data.test.images.to(self.device)
            test = predict_logits(run.result, images, recipe.mirror).cpu()
            metrics |= measure(test, data.test.labels, data.class_names, config["temperature"])
        return Checkpoint(model, config, metrics, run.history, self.out)


def make_model(
    data: Data, recipe: Recipe, seed: int, start_from: Checkpoint | None = None
) -> CifarNet:
    """The network before its first step."""
    if start_from:
        mean, std = start_from.model.mean, start_from.model.std
    else:
        mean, std = data.normalisation() if recipe.standardise else ([0.0] * 3, [1.0] * 3)
    torch.manual_seed(seed)
    model = CifarNet(len(data.class_names), recipe.dropout, mean, std)
    model.reset_parameters(recipe.init)
    if start_from:
        start_from.give_weights_to(model, data.class_names)
    return model


def describe_epoch(row: dict[str, float], epochs: int) -> str:
    """An epoch's line, as Keras prints it."""
    return (
        f"Epoch {row['epoch']:.0f}/{epochs} - {row['seconds']:.0f}s"
        f" - accuracy: {row['accuracy']:.4f} - loss: {row['loss']:.4f}"
        f" - val_accuracy: {row['val_accuracy']:.4f} - val_loss: {row['val_loss']:.4f}"
        f" - {row['images_per_second']:,.0f} images/s"
    )
