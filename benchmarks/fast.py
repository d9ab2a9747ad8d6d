"""How long recipe `fast` takes to the report's accuracy, over several seeds.

    python benchmarks/fast.py                          # CIFAR-10
    python benchmarks/fast.py --image-folder FOLDER    # with train/ and test/ in it

The accuracy is the last epoch's on the test images, of which training sees nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402
from results import latest, machine_name  # noqa: E402

from cifar_torch import kernels  # noqa: E402
from cifar_torch.data import Data, load_data  # noqa: E402
from cifar_torch.device import choose_device, choose_precision, describe_hardware  # noqa: E402
from cifar_torch.errors import UserError  # noqa: E402
from cifar_torch.recipes import RECIPES, get_recipe  # noqa: E402
from cifar_torch.training import train  # noqa: E402

ACCURACY, SECONDS, TIMES_FASTER = 0.7563, 75.0, 24.0  # the report's accuracy; the bars
KERAS_EPOCHS, KERAS_IMAGES = 25, 50_000  # what Keras trains on for that accuracy


def run_seed(data: Data, recipe: str, seed: int, device: str) -> tuple[float, float]:
    """Accuracy on the test images and seconds of training."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = train(data, get_recipe(recipe), Path(folder) / "out", device=device, seed=seed)
    assert checkpoint, "only one process runs"
    return checkpoint.metrics["accuracy"], checkpoint.metrics["seconds"]


def keras_seconds() -> float | None:
    """Of Keras's 25 epochs at batch 32 on this machine, where run.py has measured it."""
    cpu = torch.device("cpu")
    precision = str(choose_precision("auto", cpu)[0]).removeprefix("torch.")
    results = latest().get(machine_name(describe_hardware(cpu), precision))
    if results is None:
        return None
    rows = {row["name"]: row["median"] for part in results["sections"] for row in part["rows"]}
    return KERAS_EPOCHS * KERAS_IMAGES / rows["keras 32"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of CIFAR-10")
    parser.add_argument("--image-folder", type=Path, help="train on a folder of images instead")
    alone = [name for name, recipe in RECIPES.items() if not recipe.teacher]  # all time is counted
    parser.add_argument("--recipe", default="fast", choices=alone)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()

    kernels.prepare()
    data = load_data(args.image_folder, args.data)
    if choose_device(args.device).type == "cuda":
        run_seed(data, args.recipe, 0, args.device)  # loads and tunes kernels: it is not counted
    accuracies, seconds = [], []
    for seed in range(args.seeds):
        accuracy, taken = run_seed(data, args.recipe, seed, args.device)
        accuracies.append(accuracy)
        seconds.append(taken)
        print(f"seed {seed}: {accuracy:.2%} after {taken:.1f} s", flush=True)
    spread = stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(
        f"accuracy: mean {mean(accuracies):.2%}, standard deviation {spread:.2%}, lowest "
        f"{min(accuracies):.2%}, highest {max(accuracies):.2%} (bar: mean {ACCURACY:.2%})\n"
        f"training: mean {mean(seconds):.1f} s, {min(seconds):.1f}–{max(seconds):.1f} s "
        f"(bar on 2 cores with AMX: {SECONDS:.0f} s)"
    )
    on_cpu = choose_device(args.device).type == "cpu"
    if on_cpu and (keras := keras_seconds()):
        print(
            f"Keras's {KERAS_EPOCHS} epochs take {keras:,.0f} s on this machine: "
            f"{keras / mean(seconds):.1f} times as long (bar: {TIMES_FASTER:.0f})"
        )
    elif on_cpu:
        print("Run benchmarks/run.py for the ratio to Keras.")
    return 0 if mean(accuracies) >= ACCURACY else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"fast.py: {error}")
