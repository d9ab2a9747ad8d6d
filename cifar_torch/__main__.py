"""`python -m cifar_torch predict | evaluate | export | import-keras | summary | samples`."""

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from cifar_torch.errors import UserError

DEFAULT_CHECKPOINT = Path("checkpoints/best")
MAX_COLUMNS = 20  # of a printed confusion matrix; its figure has all


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m cifar_torch", description="CIFAR-10 with one small network."
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    c = commands.add_parser("predict", help="say which class each picture shows")
    c.add_argument("images", nargs="+", metavar="IMAGE", help="picture files")
    c.add_argument(
        "--checkpoint", type=Path, default=DEFAULT_CHECKPOINT, help="default: %(default)s"
    )
    c.add_argument("--json", action="store_true", help="a JSON object a line")
    c.set_defaults(run=predict)

    c = commands.add_parser("evaluate", help="measure a checkpoint on labelled test images")
    c.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint folder")
    _add_data_options(c)
    c.add_argument(
        "--out", type=Path, help="folder for the figures (default: runs/evaluation/NAME)"
    )
    c.add_argument(
        "--photos", type=Path, help="folder of photographs: class-named subfolders, and none/"
    )
    c.add_argument("--save", action="store_true", help="keep figures and metrics in the checkpoint")
    c.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    c.set_defaults(run=evaluate)

    c = commands.add_parser("export", help="write a checkpoint as an ONNX file")
    c.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint folder")
    c.add_argument("--out", type=Path, help="the file to write (default: NAME.onnx)")
    c.set_defaults(run=export)

    c = commands.add_parser("import-keras", help="make a checkpoint of a Keras model")
    c.add_argument("model", type=Path, metavar="MODEL", help="its file, .keras or .h5")
    c.add_argument("--out", type=Path, help="checkpoint folder to write (default: runs/NAME)")
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
        help="the scale of the pixels that it takes: 0 to 1, -1 to 1 or 0 to 255; with a Rescaling "
        "layer of its own the default (default: %(default)s)",
    )
    c.set_defaults(run=import_keras)

    c = commands.add_parser("summary", help="print the layers, as the report's figure 16")
    c.add_argument("--num-classes", type=int, default=10, help="default: %(default)s")
    c.set_defaults(run=summary)

    c = commands.add_parser("samples", help="draw nine training images, as the report's figure 9")
    _add_data_options(c)
    c.add_argument("--out", type=Path, default=Path("samples.png"), help="default: %(default)s")
    c.set_defaults(run=samples)
    return p


def _add_data_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, default=Path("data"), help="folder of CIFAR-10")
    command.add_argument(
        "--image-folder", type=Path, help="class-named subfolders of images instead"
    )
    command.add_argument("--strict", action="store_true", help="stop at an unreadable image")


def predict(args: argparse.Namespace) -> int:
    from cifar_torch.classifier import Classifier
    from cifar_torch.images import ImageError, look_at

    classifier, failures = Classifier.load(args.checkpoint), 0
    for path in args.images:
        try:
            answer = classifier.classify_views([look_at(path, name=path)])[0]
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
    from cifar_torch import figures
    from cifar_torch.card import write_card
    from cifar_torch.checkpoint import METRICS, write_json
    from cifar_torch.classifier import Classifier
    from cifar_torch.data import CIFAR10_CLASSES, load_cifar10, load_photos, load_test_images
    from cifar_torch.evaluation import measure, measure_photos
    from cifar_torch.files import changed_folder, folder_identity

    identity = folder_identity(args.checkpoint)
    classifier = Classifier.load(args.checkpoint, precision="fp32")  # the same on every machine
    whole_folder = None  # measured with what may have been trained on
    if args.image_folder:
        split = load_test_images(args.image_folder, classifier.class_names, args.strict)
        if not (args.image_folder / "test").is_dir():
            whole_folder = args.image_folder.resolve().name
            print(
                f"{args.image_folder} has no test/: all of its images are measured, those that the "
                "network may have been trained on among them.",
                file=sys.stderr,
            )
    elif classifier.class_names == CIFAR10_CLASSES:
        split = load_cifar10(args.data).test
    else:
        raise UserError(
            f"{args.checkpoint} has classes of its own; give their images with --image-folder."
        )
    logits = classifier.logits(split.images)
    temperature = classifier.temperature
    metrics = measure(logits, split.labels, classifier.class_names, temperature)
    if args.photos:
        photos, labels = load_photos(args.photos, classifier.class_names, args.strict)
        metrics["photos"] = measure_photos(
            classifier.views(photos), labels, logits, temperature, classifier.none_below
        )

    def draw(folder: Path) -> None:
        matrix = figures.confusion_matrix(metrics["confusion"], classifier.class_names)
        figures.save_figure(matrix, folder / "confusion.png")
        panels = figures.before_and_after(metrics)
        figures.save_figure(figures.reliability(panels), folder / "reliability.png")

    if args.save:
        out = args.checkpoint
        with changed_folder(out) as new:
            if folder_identity(out) != identity:
                raise UserError(f"{out} was changed while it was measured; evaluate it again.")
            classifier.checkpoint.metrics |= metrics | {"whole_folder": whole_folder}
            write_json(new / METRICS, classifier.checkpoint.metrics)
            draw(new)
            write_card(classifier.checkpoint, new)
    else:
        out = args.out or Path("runs/evaluation") / args.checkpoint.resolve().name
        draw(out)
    if args.json:
        print(json.dumps(metrics))
    else:
        print(describe(metrics))
        if "photos" in metrics:
            print(describe_photos(metrics["photos"]))
        print(f"Figures: {out / 'confusion.png'}, {out / 'reliability.png'}")
    return 0


def describe(metrics: dict[str, Any]) -> str:
    """The figures of an evaluation as lines of text."""
    low, high = metrics["accuracy_ci95"]
    width = max(map(len, metrics["by_class"]))
    return "\n".join(
        [
            f"Accuracy: {metrics['accuracy']:.2%} (95% interval {low:.2%} to {high:.2%}, "
            f"{metrics['images']:,} images)",
            *_one_view(metrics),
            f"Loss: {metrics['loss']:.4f}",
            f"Calibration error (ECE, 15 bins): {metrics['ece']:.2%}",
            *(f"  {name:<{width}}  {share:.1%}" for name, share in metrics["by_class"].items()),
            *_confusions(metrics["confusion"], list(metrics["by_class"])),
        ]
    )


def _confusions(counts: list[list[int]], names: list[str]) -> list[str]:
    """The confusion matrix as lines of text; of more classes than a terminal can show, none."""
    if len(names) > MAX_COLUMNS:
        return []
    from cifar_torch.evaluation import confusion_shares

    numbers = range(len(names))
    width = max(map(len, names))
    rows = (
        f"  {i:>2} {names[i]:<{width}} " + "".join(f"{100 * s:4.0f}" if s else "   ." for s in row)
        for i, row in enumerate(confusion_shares(counts))
    )
    title = "What is taken for what: a true class a row, an answer a column, in per cent of the row"
    return [title, " " * (width + 6) + "".join(f"{i:4}" for i in numbers), *rows]


def _one_view(metrics: dict[str, Any]) -> list[str]:
    if "accuracy_one_view" not in metrics:
        return []
    return [f"  without mirror images: {metrics['accuracy_one_view']:.2%}"]


def describe_photos(photos: dict[str, Any]) -> str:
    """The figures about photographs as lines of text."""
    lines = []
    if photos["known"]:
        lines.append(
            f"Photographs of known things: {photos['accuracy']:.1%} of {photos['known']} right; "
            f"{photos['answered_right']:.1%} right and not answered «none»"
        )
    if photos["none"]:
        against_photos = (
            f", against the photographs of known things {photos['none_auroc_photos']:.3f}"
            if photos["known"]
            else ""
        )
        lines.append(
            f"Photographs of none of the classes ({photos['none']}): "
            f"{photos['none_answered_none']:.1%} answered «none»; AUROC against the test images "
            f"{photos['none_auroc']:.3f}{against_photos}; {photos['none_accepted_at_95']:.1%} "
            "accepted when 95% of the test images are"
        )
    return "\n".join(lines)


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
    out = args.out if args.out.suffix else args.out.with_suffix(".png")
    save_figure(sample_grid(chosen.images.permute(0, 2, 3, 1).numpy(), titles), out)
    print(f"Drawn: {out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files that are no text
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"{parser().prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
