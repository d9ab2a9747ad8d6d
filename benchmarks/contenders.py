"""The contenders of run.py, one process each: `python benchmarks/contenders.py NAME`.

A process reads one JSON list a line, [method, arguments], and answers with one JSON line. Between
two of them it waits for its input and leaves the processor to the others.
"""

import json
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # run.py starts this file as a program

CLASSES = 10
MAX_IMAGES = 8000
FLOPS = 246e6  # of a training image: 82 million forward, and twice as many backward


@cache
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """The images of every contender, (N, 32, 32, 3) uint8, and labels: random ones, as what is in
    a picture does not change what it costs."""
    rng = np.random.default_rng(0)
    shape = (MAX_IMAGES, 32, 32, 3)
    return rng.integers(0, 256, shape, np.uint8), rng.integers(0, CLASSES, MAX_IMAGES)


class Keras:
    """Keras 3 on TensorFlow, as the report's script uses it."""

    def __init__(self) -> None:
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import keras

        self.keras = keras
        images, labels = pictures()
        self.images = images.astype("float32") / 255
        self.labels = keras.utils.to_categorical(labels, CLASSES)
        self.model = cache(self._model)

    def versions(self) -> dict[str, str]:
        import tensorflow

        return {"keras": self.keras.__version__, "tensorflow": tensorflow.__version__}

    def _model(self, policy: str) -> Any:
        """The report's network. Its softmax is float32 in any case, as Keras's guide advises."""
        self.keras.mixed_precision.set_dtype_policy(policy)
        layers, same = self.keras.layers, {"padding": "same", "activation": "relu"}
        limit = self.keras.constraints.MaxNorm(3)
        stack: list[Any] = [layers.Input((32, 32, 3))]
        for channels in (32, 64, 128):
            stack += [
                layers.Conv2D(channels, 3, **same),
                layers.Dropout(0.2),
                layers.Conv2D(channels, 3, **same),
                layers.MaxPooling2D(),
            ]
        stack.append(layers.Flatten())
        for units in (1024, 512):
            stack += [
                layers.Dropout(0.2),
                layers.Dense(units, activation="relu", kernel_constraint=limit),
            ]
        stack += [
            layers.Dropout(0.2),
            layers.Dense(CLASSES, activation="softmax", dtype="float32"),
        ]
        model = self.keras.Sequential(stack)
        model.compile(
            loss="categorical_crossentropy",
            optimizer=self.keras.optimizers.SGD(learning_rate=0.01, momentum=0.9),
            metrics=["accuracy"],
        )
        return model

    def train(self, policy: str, batch: int, images: int) -> float:
        """Images a second of one epoch; what fit does before it is not counted."""
        times: list[float] = []
        clock = self.keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: times.append(time.perf_counter()),
            on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()),
        )
        self.model(policy).fit(
            self.images[:images],
            self.labels[:images],
            batch_size=batch,
            verbose=0,
            callbacks=[clock],
        )
        return images / (times[1] - times[0])

    def predict(self, policy: str, batch: int, images: int) -> float:
        """Images a second."""
        started = time.perf_counter()
        self.model(policy).predict(self.images[:images], batch_size=batch, verbose=0)
        return images / (time.perf_counter() - started)

    def latency(self, calls: int) -> float:
        """Milliseconds for one picture, the median of so many calls."""
        model = self.model("float32")
        return _median_ms(lambda: model.predict(self.images[:1], verbose=0), calls)


class PyTorch:
    """The report's network in plain PyTorch."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        images, labels = pictures()
        self.images, self.labels = images, torch.from_numpy(labels)
        self.model = cache(self._model)

    def _model(self, channels_last: bool) -> Any:
        nn, layers, inputs = self.torch.nn, [], 3
        for channels in (32, 64, 128):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(), nn.Dropout(0.2)]
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = channels
        layers += [nn.Flatten(), nn.Dropout(0.2), nn.Linear(2048, 1024), nn.ReLU()]
        layers += [nn.Dropout(0.2), nn.Linear(1024, 512), nn.ReLU()]
        layers += [nn.Dropout(0.2), nn.Linear(512, CLASSES)]
        model = nn.Sequential(*layers)
        if channels_last:
            model = model.to(memory_format=self.torch.channels_last)
        return model, self.torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def train(self, data: str, batch: int, images: int, autocast: bool = False) -> float:
        """Images a second of one epoch, with `data` from a "loader" or as one "tensor"; float32,
        or bf16 autocast."""
        model, optimizer = self.model(data == "tensor")
        criterion = self.torch.nn.CrossEntropyLoss()
        started, loss_sum = time.perf_counter(), 0.0
        for x, y in getattr(self, data)(batch, images):
            optimizer.zero_grad()
            with self.torch.autocast("cpu", enabled=autocast):
                loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
        return images / (time.perf_counter() - started)

    def loader(self, batch: int, images: int) -> Any:
        """As tutorials do it: a data set with a transform of every image, and a DataLoader."""
        from torchvision import transforms

        normalise = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        transform = transforms.Compose([transforms.ToTensor(), normalise])
        pairs: Any = _Pairs(self.images[:images], self.labels[:images].tolist(), transform)
        return self.torch.utils.data.DataLoader(pairs, batch_size=batch, shuffle=True)

    def tensor(self, batch: int, images: int) -> Any:
        """The images as one tensor, channels last."""
        x = self.torch.from_numpy(self.images[:images]).permute(0, 3, 1, 2)
        for i in self.torch.randperm(images).split(batch):
            yield x[i].float().div_(255), self.labels[i]


class _Pairs:
    """A data set as torchvision has them: pictures of PIL's, each transformed when asked for."""

    def __init__(self, images: np.ndarray, labels: list[int], transform: Any):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Project:
    """This project: the training loop behind train.py, and the classifier behind the web app."""

    def __init__(self) -> None:
        from cifar_torch import device

        device.prepare_cpu()
        self.trainer, self.network = cache(self._trainer), cache(self._network)

    def versions(self) -> dict[str, str]:
        from cifar_torch.checkpoint import versions

        return versions()

    def hardware(self) -> dict[str, str]:
        import torch

        from cifar_torch.device import choose_precision, describe_hardware

        cpu = torch.device("cpu")
        dtype, why = choose_precision("auto", cpu)
        return {"cpu": describe_hardware(cpu), "precision": f"{str(dtype)[6:]} ({why})"}

    def _data(self, images: int) -> Any:
        import torch

        from cifar_torch.data import CIFAR10_CLASSES, Data, Split

        x, y = (torch.from_numpy(values) for values in pictures())
        x = x.permute(0, 3, 1, 2).contiguous()
        return Data(
            Split(x[:images], y[:images]), Split(x[:500], y[:500]), CIFAR10_CLASSES, "noise"
        )

    def _trainer(self, precision: str, batch: int, images: int, dropout: float) -> Any:
        import torch

        from cifar_torch.processes import Processes
        from cifar_torch.progress import Watch
        from cifar_torch.recipes import get_recipe
        from cifar_torch.training import Trainer

        recipe = get_recipe("report", batch_size=batch, epochs=1000, dropout=dropout)
        nowhere, processes = Path(os.devnull), Processes(torch.device("cpu"))
        trainer = Trainer(self._data(images), recipe, nowhere, processes, precision, 0)
        trainer.prepare(Watch())
        return trainer

    def train(self, precision: str, batch: int, images: int, dropout: float = 0.2) -> float:
        """Images a second of one epoch of recipe report."""
        from cifar_torch.progress import Watch

        trainer = self.trainer(precision, batch, images, dropout)
        trainer.run.seconds = 0.0
        trainer.train_epoch(trainer.run.step // trainer.steps, Watch())
        return images / trainer.run.seconds

    def limit(self, precision: str) -> float:
        """Images a second, if training were nothing but its multiplications, done as fast as those
        of two large matrices."""
        import torch

        size, dtype = 2048, torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = torch.randn(2, size, size).to(dtype)
        return 2 * size**3 / (_median_ms(lambda: a @ b, 5) / 1000) / FLOPS

    def memory(self, epochs: int, images: int) -> list[float]:
        """Resident memory in MB at the end of each epoch of a run that saves after every one."""
        import torch

        from cifar_torch import training
        from cifar_torch.processes import Processes
        from cifar_torch.progress import Watch
        from cifar_torch.recipes import get_recipe

        resident = []

        class Watched(training.Trainer):
            def epoch_row(self, epoch: int) -> dict[str, float]:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
                return super().epoch_row(epoch)

        recipe = get_recipe("report", batch_size=128, epochs=epochs)
        processes = Processes(torch.device("cpu"))
        training.SAVE_EVERY = 0.0
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            trainer = Watched(self._data(images), recipe, out, processes, "auto", 0)
            trainer.fit(Watch())
        return resident

    def _network(self, precision: str) -> Any:
        import torch

        from cifar_torch.model import CifarNet

        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return CifarNet().eval().to(memory_format=torch.channels_last).in_precision(dtype)

    def predict(self, precision: str, images: int) -> float:
        """Images a second."""
        from cifar_torch.evaluation import predict_logits

        x, network = self._data(images).train.images, self.network(precision)
        started = time.perf_counter()
        predict_logits(network, x)
        return images / (time.perf_counter() - started)

    def latency(self, calls: int) -> float:
        """Milliseconds for one picture, the median of so many calls."""
        from cifar_torch.checkpoint import Checkpoint
        from cifar_torch.classifier import Classifier
        from cifar_torch.data import CIFAR10_CLASSES
        from cifar_torch.model import CifarNet

        classifier = Classifier(Checkpoint(CifarNet(), {"class_names": CIFAR10_CLASSES}))
        pixels = pictures()[0][:1]
        return _median_ms(lambda: classifier.classify_views([pixels]), calls)


def _median_ms(call: Any, calls: int) -> float:
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * median(times)


CONTENDERS = {"keras": Keras, "pytorch": PyTorch, "project": Project}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    contender = CONTENDERS[sys.argv[1]]()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(getattr(contender, method)(**arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
