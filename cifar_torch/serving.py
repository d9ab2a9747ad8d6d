"""Pictures that arrive together share one pass through the network."""

import asyncio
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from cifar_torch.classifier import Answer, Classifiers
from cifar_torch.images import ImageSource, look_at

DECODERS = 2  # threads; Pillow releases the interpreter's lock while it decodes
NO_TURNS = nullcontext()
MAX_BATCH = 16  # pictures of one pass; 64 would be 5% quicker, and fragment 150 MB more memory


@dataclass(frozen=True)
class Job:
    """One picture's views, (V, 32, 32, 3) uint8, on their way to a checkpoint; None is the default
    one."""

    model: str | None
    views: np.ndarray
    future: Future[tuple[str, Answer]] = field(default_factory=Future)


class Batcher:
    """Decodes pictures in a few threads; another runs the network on whatever has queued up since
    its last pass.

    A picture that comes alone is answered at once: nothing waits for a batch to fill.
    """

    def __init__(self, classifiers: Classifiers, limit: int = MAX_BATCH):
        self.classifiers = classifiers
        self._limit = limit
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="batcher", daemon=True).start()

    async def classify(
        self,
        source: ImageSource,
        model: str | None = None,
        name: str | None = None,
        turns: AbstractAsyncContextManager[object] = NO_TURNS,
    ) -> tuple[str, Answer]:
        """The checkpoint's name and its answer for a picture as `open_image` takes it; `name` is
        what errors call it, `turns` is entered while it is decoded. Raises ImageError, and what
        `Classifiers.get` raises."""
        loop = asyncio.get_running_loop()
        async with turns:
            views = await loop.run_in_executor(self._decoders, look_at, source, name)
        return await asyncio.wrap_future(self.submit(model, views))

    def submit(self, model: str | None, views: np.ndarray) -> Future[tuple[str, Answer]]:
        """The checkpoint's name and its answer, later. The future raises what `get` raises."""
        job = Job(model, views)
        self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while True:
            jobs = [self._jobs.get()]
            while len(jobs) < self._limit and not self._jobs.empty():
                jobs.append(self._jobs.get())
            # A future that was cancelled is dropped here.
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            for model in {job.model for job in jobs}:
                self._answer(model, [job for job in jobs if job.model == model])

    def _answer(self, model: str | None, jobs: list[Job]) -> None:
        try:
            name = model or self.classifiers.check(None)  # which `get` does for others
            classifier = self.classifiers.get(name)
            answers = classifier.classify_views([job.views for job in jobs])
        except Exception as error:  # whatever it is, each request has to hear of it
            for job in jobs:
                job.future.set_exception(error)
        else:
            for job, answer in zip(jobs, answers, strict=True):
                job.future.set_result((name, answer))
