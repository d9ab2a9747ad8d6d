"""One training run at a time, in a thread of the server, so that it outlives the visitor's page."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from cifar_torch.checkpoint import STATE, Checkpoint
from cifar_torch.classifier import Classifiers
from cifar_torch.data import Data
from cifar_torch.device import prepare_cpu
from cifar_torch.errors import ReasonedError, UserError, reworded
from cifar_torch.files import locked_folder
from cifar_torch.progress import Progress, Stopped
from cifar_torch.recipes import Recipe

PATIENCE = 20.0  # seconds: a step and a save take less than one, reading many pictures more
THREADS = torch.get_num_threads()  # as many as the machine lends; serving takes one of them
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")

Phase = Literal["idle", "reading", "training", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Status:
    """Where the run is. When it failed, `error` is what was wrong; `resumed`, when it goes on with
    what an earlier one has learned; `unused` files of a zip were no pictures that can be read."""

    phase: Phase = "idle"
    name: str = ""
    progress: Progress | None = None
    error: UserError | None = None
    resumed: bool = False
    unused: int = 0

    @property
    def running(self) -> bool:
        return self.phase in ("reading", "training")

    @property
    def learned(self) -> bool:
        """Whether the network itself, and not only its teachers, has taken a step."""
        progress = self.progress
        stepped = progress and not progress.teaching and (progress.epoch > 1 or progress.step)
        return self.resumed or bool(stepped)


class Runner:
    """Trains checkpoints into the folder of the model menu, one after the other."""

    def __init__(self, classifiers: Classifiers):
        self.classifiers, self.checkpoints = classifiers, classifiers.folder
        self.status = Status()
        self._asked: tuple[object, ...] = ()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(
        self,
        name: str,
        recipe: Recipe,
        load: Callable[[], Data],
        start_from: Checkpoint | None = None,
        images: str | None = None,
    ) -> None:
        """Train into `checkpoints/name` on what `load` gives, from the weights of another or from
        random ones; a run of that name that was stopped goes on. `images` says in a word what
        `load` gives, to tell a double click from another visitor. Raises ReasonedError."""
        if not SAFE_NAME.fullmatch(name):
            raise ReasonedError("name", f"{name!r} cannot be the name of a checkpoint.")
        asked = (name, recipe, images, start_from and start_from.folder)
        with self._lock:
            if self.status.running:
                if self._asked == asked:  # a double click
                    return
                raise ReasonedError("busy", f"{self.status.name} is being trained already.")
            out = self.checkpoints / name
            resume = (out / STATE).exists()
            if not resume and (name in self.classifiers.names() or out.exists()):
                raise ReasonedError("taken", f"there is a checkpoint {name!r} already.")
            self._stop.clear()
            self._asked = asked
            self.status = Status("reading", name, resumed=resume)
        arguments = (name, recipe, load, start_from)
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run at the next opportunity; its checkpoint is kept."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def end(self) -> None:
        """With the program: stop the run, and wait a while until it is saved."""
        self.stop()
        if self._thread:
            self._thread.join(PATIENCE)

    def _run(
        self, name: str, recipe: Recipe, load: Callable[[], Data], start_from: Checkpoint | None
    ) -> None:
        try:
            self._train(name, recipe, load, start_from)
        except UserError as error:
            print(f"app.py: {name} could not be trained: {error}", file=sys.stderr)
            self.status = replace(self.status, phase="failed", error=self._without_folder(error))
        except Exception as error:
            failure = ReasonedError("failed", repr(error))  # whose words may name folders
            self.status = replace(self.status, phase="failed", error=failure)
            raise

    def _train(
        self, name: str, recipe: Recipe, load: Callable[[], Data], start_from: Checkpoint | None
    ) -> None:
        from cifar_torch.training import train  # here: it draws, and matplotlib is slow

        prepare_cpu()
        _compute_with(THREADS)
        try:
            data = load()
            self.status = replace(self.status, unused=data.unused)
            if self.stopping:
                raise Stopped
            trained = train(
                data, recipe, self.checkpoints / name, resume=self.status.resumed,
                start_from=start_from, on_progress=self._note,
            )  # fmt: skip
            progress = _last(trained, self.status.progress)
            self.status = replace(self.status, phase="done", progress=progress)
        except Stopped:
            if self.status.phase == "training" and not self.status.learned:
                _remove(self.checkpoints / name)  # of no use in the menu
            self.status = replace(self.status, phase="stopped")

    def _without_folder(self, error: UserError) -> UserError:
        """Where this machine keeps its checkpoints is nothing for visitors."""
        text = str(error)
        for folder in (self.checkpoints.resolve(), self.checkpoints):
            text = text.replace(f"{folder}{os.sep}", "")
        return reworded(error, text)

    def _note(self, progress: Progress) -> bool:
        self.status = replace(self.status, phase="training", progress=progress)
        return not self.stopping


def _remove(folder: Path) -> None:
    with suppress(UserError), locked_folder(folder):  # unless somebody else has begun with it
        shutil.rmtree(folder, ignore_errors=True)


def _compute_with(threads: int) -> None:
    """Let the calling thread compute with so many. set_num_threads also sets the default of threads
    that have not computed yet, which a second thread sets back."""
    others = torch.get_num_threads()
    torch.set_num_threads(threads)
    back = threading.Thread(target=torch.set_num_threads, args=(others,))
    back.start()
    back.join()


def _last(trained: Checkpoint | None, progress: Progress | None) -> Progress | None:
    """The progress of a run that has ended, with its last epoch."""
    if not trained or not progress:
        return progress
    row = trained.history[-1]
    return replace(
        progress, epoch=progress.epochs, step=progress.steps, loss=row["loss"],
        accuracy=row["accuracy"], history=tuple(trained.history),
    )  # fmt: skip
