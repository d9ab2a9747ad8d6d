"""How far a training run is, and whether somebody wants it to stop."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

REPORT_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class Progress:
    """How far a run is. `epoch` counts from 1; loss and accuracy are this epoch's so far.

    While teachers are trained, `teaching` is set and `epoch` and `epochs` are theirs.
    """

    epoch: int
    epochs: int
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    history: tuple[dict[str, float], ...] = ()
    teaching: bool = False


OnProgress = Callable[[Progress], bool]


class Stopped(Exception):
    """The run was asked to stop. It is saved where it stands and can be resumed."""


class Watch:
    """Asked before every step of a run: tells `on_progress`, about twice a second, how far it is,
    and knows who wants it to stop: `on_progress` when it returns False, or Ctrl-C."""

    def __init__(
        self,
        on_progress: OnProgress | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ):
        self.on_progress, self.interrupted = on_progress, interrupted
        self.last_report = 0.0

    def wants_stop(self, progress: Callable[[], Progress]) -> bool:
        """`progress` is called only where it is to be told: its figures may lie on a GPU."""
        stop, now = self.interrupted(), time.perf_counter()
        if self.on_progress and now - self.last_report >= REPORT_EVERY:
            self.last_report = now
            stop |= not self.on_progress(progress())
        return stop


@contextmanager
def interruptions(alone: bool) -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag instead of breaking a step in two; a second Ctrl-C ends the program. So
    does SIGTERM, which a machine that is about to stop sends, but for torchrun's processes, which
    it ends with it when one of them has died."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # signals reach the main thread only
        return

    def note(signum: int, frame: Any) -> None:
        pressed.set()
        signal.signal(signum, before[signum])

    signals = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,)
    before = {int(signum): signal.signal(signum, note) for signum in signals}
    try:
        yield pressed.is_set
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
