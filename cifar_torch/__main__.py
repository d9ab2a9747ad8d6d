"""`python -m cifar_torch predict | evaluate | export | import-keras | summary | samples`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_torch.console import named_path, run_command
from cifar_torch.errors import UserError

if TYPE_CHECKING:  # --help should not wait for torch
    from cifar_torch.checkpoint import Checkpoint
    from cifar_torch.data import Split

DEFAULT_CHECKPOINT = Path("checkpoints/best")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m cifar_torch", description="CIFAR-10 with one small network."
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    c = commands.add_parser("predict", help="say which class each picture shows")
    c.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture files, and folders of them at any depth"
    )
    c.add_argument(
        "--checkpoint", type=named_path, default=DEFAULT_CHECKPOINT, help="default: %(default)s"
    )
    c.add_argument("--json", action="store_true", help="one JSON object per line")
    c.set_defaults(run=predict)

    c = commands.add_parser("evaluate", help="measure a checkpoint on labelled test images")
    c.add_argument("checkpoint", type=named_path, metavar="CHECKPOINT", help="checkpoint folder")
    _add_data_options(c)
    c.add_argument(
        "--out", type=named_path, help="folder for the figures (default: runs/evaluation/NAME)"
    )
    c.add_argument(
        "--photos", type=named_path, help="folder of photographs: class-named subfolders, and none/"
    )
    c.add_argument("--save", action="store_true", help="keep figures and metrics in the checkpoint")
    c.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    c.set_defaults(run=evaluate)

    c = commands.add_parser("export", help="write a checkpoint as an ONNX file")
    c.add_argument("checkpoint", type=named_path, metavar="CHECKPOINT", help="checkpoint folder")
    c.add_argument("--out", type=named_path, help="the file to write (default: NAME.onnx)")
    c.set_defaults(run=export)

    c = commands.add_parser("import-keras", help="make a checkpoint of a Keras model")
    c.add_argument("model", type=named_path, metavar="MODEL", help="its file, .keras or .h5")
    c.add_argument("--out", type=named_path, help="checkpoint folder to write (default: runs/NAME)")
    c.add_argument(
        "--class-names",
        nargs="+",
        metavar="CLASS",
        help="in the order of its outputs (default: CIFAR-10's)",
    )
    c.add_argument(
        "--pixels",
        default="unit",
        choices=("unit", "signed", "bytes"),
        help="the scale of the pixels that it takes: 0 to 1, -1 to 1 or 0 to 255; keep the default "
        "where it has a Rescaling layer of its own (default: %(default)s)",
    )
    c.set_defaults(run=import_keras)

    c = commands.add_parser("summary", help="print the layers, as the report's figure 16")
    c.add_argument("--num-classes", type=int, default=10, help="default: %(default)s")
    c.set_defaults(run=summary)

    c = commands.add_parser("samples", help="draw nine training images, as the report's figure 9")
    _add_data_options(c)
    c.add_argument(
        "--out", type=named_path, default=Path("samples.png"), help="default: %(default)s"
    )
    c.set_defaults(run=samples)
    return p


def _add_data_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        type=named_path,
        default=Path("data"),
        help="folder of CIFAR-10, downloaded if need be",
    )
    command.add_argument(
        "--image-folder", type=named_path, help="class-named subfolders of images instead"
    )
    command.add_argument("--strict", action="store_true", help="stop at an unreadable image")


def predict(args: argparse.Namespace) -> int:
    from cifar_torch.classifier import Classifier
    from cifar_torch.image_folder import pictures_in, say_passed_over
    from cifar_torch.images import ImageError, look_at

    classifier, failures, paths = Classifier.load(args.checkpoint), 0, []
    for name in args.images:
        found = [name]
        if name and Path(name).is_dir():
            pictures, others = pictures_in(Path(name))
            say_passed_over(Path(name), others)
            found = [str(path) for path in pictures]
        if not found:
            failures += 1
            print(f"There is no picture in the folder {name}.", file=sys.stderr)
        paths += found
    for path in paths:
        try:
            answer = classifier.classify_views([look_at(path, name=path or "''")])[0]
        except ImageError as error:
            failures += 1
            print(f"{error}", file=sys.stderr)
            continue
        if args.json:
            row = {"image": path, "class": answer.class_name, "confidences": answer.confidences}
            print(json.dumps(row, ensure_ascii=False))
        else:
            best = ", ".join(f"{n} {c:.1%}" for n, c in list(answer.confidences.items())[:3])
            print(f"{path}: {answer.class_name or 'none of these'} ({best})")
    return 2 if failures else 0


def evaluate(args: argparse.Namespace) -> int:
    from cifar_torch import evaluation_text
    from cifar_torch.checkpoint import WEIGHTS
    from cifar_torch.classifier import Classifier
    from cifar_torch.evaluation import measure, measure_photos
    from cifar_torch.files import folder_identity
    from cifar_torch.image_folder import load_photos

    folder = args.checkpoint.resolve()  # the one we may stand in is about to be replaced
    identity = folder_identity(folder)
    out = args.out or (folder if args.save else Path("runs/evaluation") / folder.name)
    if out.resolve() != folder and (out / WEIGHTS).exists():
        raise UserError(f"{out} is another checkpoint, whose figures would be lost.")
    classifier = Classifier.load(args.checkpoint, precision="fp32")  # the same on every machine
    names, temperature = classifier.class_names, classifier.temperature
    images, measured_on = _test_images(args, classifier.checkpoint)
    logits = classifier.logits(images.images)
    metrics = measure(logits, images.labels, names, temperature)
    metrics |= {"measured_on": measured_on, "test_fingerprint": images.fingerprint()}
    if args.photos:
        photos, labels = load_photos(args.photos, names, args.strict)
        metrics["photos"] = measure_photos(
            classifier.views(photos), labels, logits, temperature, classifier.none_below
        )
    if args.save:
        _keep(metrics, classifier.checkpoint, folder, identity)
    if args.out or not args.save:
        _draw(metrics, out)
    if args.json:
        print(json.dumps(metrics))
    else:
        print(evaluation_text.describe(metrics))
        if "photos" in metrics:
            print(evaluation_text.describe_photos(metrics["photos"]))
        print(f"Figures: {out / 'confusion.png'}, {out / 'reliability.png'}")
    return 0


def _test_images(args: argparse.Namespace, checkpoint: "Checkpoint") -> "tuple[Split, str | None]":
    """The images to measure on, and what they are where they are not the checkpoint's own test
    images."""
    from cifar_torch.data import CIFAR10_CLASSES, CIFAR10_ORIGIN, load_cifar10, load_test_images

    everything = args.image_folder and not (args.image_folder / "test").is_dir()
    if args.image_folder:
        images = load_test_images(args.image_folder, checkpoint.class_names, args.strict)
        measured_on = f"of the folder {args.image_folder.resolve().name}"
        if everything:
            measured_on = f"all {measured_on}, which it may have been trained on"
    elif checkpoint.class_names == CIFAR10_CLASSES:
        images, measured_on = load_cifar10(args.data).test, f"of {CIFAR10_ORIGIN}"
    else:
        raise UserError(
            f"{args.checkpoint} has classes of its own; give their images with --image-folder."
        )
    if checkpoint.config.get("data", {}).get("test_fingerprint") == images.fingerprint():
        return images, None
    if everything:
        print(
            f"{args.image_folder} has no test/: all of its images are measured, those that the "
            "network may have been trained on among them.",
            file=sys.stderr,
        )
    return images, measured_on


def _keep(
    metrics: dict[str, Any], checkpoint: "Checkpoint", folder: Path, identity: object
) -> None:
    """Write an evaluation into the checkpoint's folder. What is known of photographs stays where
    the test images are those of before. Raises UserError: it is another folder than `identity`."""
    from cifar_torch.card import write_card
    from cifar_torch.checkpoint import METRICS, write_json
    from cifar_torch.files import changed_folder, folder_identity

    known = checkpoint.metrics
    images = checkpoint.config.get("data", {}).get("test_fingerprint")
    if known.get("test_fingerprint", images) != metrics["test_fingerprint"]:
        known.pop("photos", None)
    known |= metrics
    with changed_folder(folder) as new:
        if folder_identity(folder) != identity:
            raise UserError(f"{folder} was changed while it was measured; evaluate it again.")
        write_json(new / METRICS, known)
        _draw(known, new)
        write_card(checkpoint, new)


def _draw(metrics: dict[str, Any], folder: Path) -> None:
    from cifar_torch import figures

    matrix = figures.confusion_matrix(metrics["confusion"], list(metrics["by_class"]))
    figures.save_figure(matrix, folder / "confusion.png")
    panels = figures.before_and_after(metrics)
    figures.save_figure(figures.reliability(panels), folder / "reliability.png")


def export(args: argparse.Namespace) -> int:
    from cifar_torch.checkpoint import load_checkpoint
    from cifar_torch.export import export_onnx

    checkpoint = load_checkpoint(args.checkpoint)
    out = args.out or Path(f"{checkpoint.title}.onnx")
    export_onnx(checkpoint, out)
    print(
        f"Saved: {out} ({out.stat().st_size / 1e6:.1f} MB)\n"
        "  takes images (N, 3, 32, 32), uint8 RGB\n"
        f"  gives probabilities (N, {len(checkpoint.class_names)}), familiarity (N) and none (N), "
        "true for «none of these»"
    )
    return 0


def import_keras(args: argparse.Namespace) -> int:
    from cifar_torch import keras_import
    from cifar_torch.card import write_card
    from cifar_torch.checkpoint import check_destination, save_checkpoint
    from cifar_torch.files import locked_folder

    out = args.out or Path("runs") / args.model.stem
    with locked_folder(out):
        check_destination(out)
        checkpoint = keras_import.import_keras(args.model, args.class_names, args.pixels)
        save_checkpoint(checkpoint, out, lambda folder: write_card(checkpoint, folder))
    print(f"Saved in {out}. Its answers are those of {args.model}.")
    return 0


def summary(args: argparse.Namespace) -> int:
    if not 2 <= args.num_classes <= 10_000:
        raise UserError("--num-classes must be from 2 to 10000.")
    from cifar_torch.model import CifarNet
    from cifar_torch.summary import summary_table

    print(summary_table(CifarNet(args.num_classes)))
    return 0


def samples(args: argparse.Namespace) -> int:
    import torch

    from cifar_torch.data import load_data
    from cifar_torch.figures import sample_grid, save_figure

    data = load_data(args.image_folder, args.data, args.strict)
    if args.image_folder:
        nine = torch.linspace(0, len(data.train) - 1, 9).long()  # a folder is sorted by class
    else:
        nine = torch.arange(9)  # the very nine of the report
    chosen = data.train[nine]
    titles = [data.class_names[label] for label in chosen.labels]
    named = args.out.suffix or args.out.is_dir()
    out = args.out if named else args.out.with_suffix(".png")
    save_figure(sample_grid(chosen.images.permute(0, 2, 3, 1).numpy(), titles), out)
    print(f"Drawn: {out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return run_command(parser().prog, lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
