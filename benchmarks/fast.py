"""How long recipe `fast`, or another one, takes and what it reaches, over several seeds.

    python benchmarks/fast.py                          # CIFAR-10
    python benchmarks/fast.py --image-folder FOLDER    # with train/ and test/ in it

The accuracy is the last epoch's on the test images, of which training sees nothing. The seconds are
those of the steps; teachers, validation and saving are in the seconds «in all». No teacher
that an earlier run has kept is used. Where a mean misses its bar, the status is 1.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from unittest.mock import patch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402
from results import latest, machine_name  # noqa: E402

from cifar_torch.data import Data, load_data  # noqa: E402
from cifar_torch.device import (  # noqa: E402
    PRECISION_NAMES,
    choose_device,
    choose_precision,
    describe_hardware,
    prepare_cpu,
)
from cifar_torch.errors import UserError  # noqa: E402
from cifar_torch.recipes import RECIPES, get_recipe  # noqa: E402
from cifar_torch.training import train  # noqa: E402

KERAS_EPOCHS, KERAS_IMAGES = 25, 50_000  # what Keras trains on for the report's accuracy
ACCURACY = {"fast": 75.63, "best": 90.5}  # per cent
# Bars of time, by recipe and machine: two cores with AMX, and one H200.
SECONDS = {("fast", "cpu bf16"): 75.0, ("fast", "cuda bf16"): 2.0}
SECONDS_IN_ALL = {("report", "cuda bf16"): 40.0, ("best", "cuda bf16"): 90.0}
TIMES_KERAS = {("fast", "cpu bf16"): 24.0}


def run_seed(data: Data, recipe: str, seed: int, device: str) -> tuple[float, float, float]:
    """Accuracy in per cent, seconds of the steps, and seconds in all."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with patch.dict(os.environ, XDG_CACHE_HOME=folder):  # where no teachers are yet
            out = Path(folder) / "out"
            checkpoint = train(data, get_recipe(recipe), out, device=device, seed=seed)
        in_all = time.perf_counter() - started
    assert checkpoint, "only one process runs"
    return 100 * checkpoint.metrics["accuracy"], checkpoint.metrics["seconds"], in_all


def keras_seconds() -> float | None:
    """Of Keras's 25 epochs at batch 32 on this machine, where run.py has measured it."""
    cpu = torch.device("cpu")
    precision = str(choose_precision("auto", cpu)[0]).removeprefix("torch.")
    results = latest().get(machine_name(describe_hardware(cpu), precision))
    if results is None:
        return None
    rows = {row["name"]: row["median"] for part in results["sections"] for row in part["rows"]}
    return KERAS_EPOCHS * KERAS_IMAGES / rows["keras 32"]


def tell(title: str, values: Sequence[float], bar: float | None, at_least: bool = False) -> bool:
    """Print what the seeds gave, and whether their mean keeps the bar, if there is one."""
    middle, spread = mean(values), stdev(values) if len(values) > 1 else 0.0
    kept = bar is None or (middle >= bar if at_least else middle <= bar)
    judged = "" if bar is None else f"; bar {bar:g}: {'met' if kept else 'MISSED'}"
    print(
        f"{title}: mean {middle:.2f}, standard deviation {spread:.2f}, {min(values):.2f} to "
        f"{max(values):.2f}{judged}"
    )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of CIFAR-10")
    parser.add_argument("--image-folder", type=Path, help="train on a folder of images instead")
    parser.add_argument("--recipe", default="fast", choices=RECIPES, help="default: fast")
    parser.add_argument("--device", default="auto", help="as of train.py")
    parser.add_argument("--seeds", type=int, default=5, help="how many runs (default: 5)")
    args = parser.parse_args()

    prepare_cpu()
    data = load_data(args.image_folder, args.data)
    device = choose_device(args.device)
    if device.type == "cuda":
        run_seed(data, args.recipe, 0, args.device)  # loads and tunes kernels: it is not counted
    runs = []
    for seed in range(args.seeds):
        runs.append(run_seed(data, args.recipe, seed, args.device))
        accuracy, steps, in_all = runs[-1]
        print(f"seed {seed}: {accuracy:.2f}%, {steps:.1f} s, {in_all:.1f} s in all", flush=True)

    accuracies, seconds, seconds_in_all = zip(*runs, strict=True)
    dtype, _ = choose_precision("auto", device)
    which = args.recipe, f"{device.type} {PRECISION_NAMES[dtype]}"
    kept = [
        tell("accuracy, %", accuracies, ACCURACY.get(args.recipe), at_least=True),
        tell("steps, s", seconds, SECONDS.get(which)),
        tell("in all, s", seconds_in_all, SECONDS_IN_ALL.get(which)),
    ]
    if device.type == "cpu" and (keras := keras_seconds()):
        times = [keras / s for s in seconds]
        title = f"times as fast as Keras's {KERAS_EPOCHS} epochs ({keras:,.0f} s)"
        kept.append(tell(title, times, TIMES_KERAS.get(which), at_least=True))
    elif device.type == "cpu":
        print("Run benchmarks/run.py for the ratio to Keras.")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"fast.py: {error}")
