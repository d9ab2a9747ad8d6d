"""Train the network: `python train.py --device cuda`."""

import argparse
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from cifar_torch.console import named_path, run_command
from cifar_torch.errors import UserError
from cifar_torch.recipes import DEFAULT_RECIPE, KNOBS, RECIPES, changed, choices


def parser() -> argparse.ArgumentParser:
    """The command line: where and on what to train, and a flag for every field of a recipe."""
    p = argparse.ArgumentParser(
        description="Train the network on CIFAR-10 or on your own pictures.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python train.py --device cuda\n  python train.py --recipe fast\n"
        "  python train.py --image-folder my-pictures --epochs 10 --out checkpoints/mine\n"
        "  python train.py --image-folder my-pictures --start-from checkpoints/best",
    )
    p.add_argument(
        "--recipe",
        choices=RECIPES,
        help="report: as the report trained; fast: its accuracy in the least time; best: the most "
        f"that this network can hold (default: {DEFAULT_RECIPE.name})",
    )
    p.add_argument(
        "--out", type=named_path, help="checkpoint folder to write (default: runs/RECIPE)"
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on with the unfinished run in --out, with its recipe, seed and precision; give "
        "--image-folder and --start-from again if it was begun with them",
    )
    p.add_argument(
        "--start-from",
        type=named_path,
        metavar="FOLDER",
        help="checkpoint whose weights are trained on, with its normalisation, instead of random "
        "ones; where its classes are not yours, the last layer begins anew",
    )
    p.add_argument(
        "--seed",
        type=_seed,
        metavar="N",
        help="for weights, order, augmentation, outliers and dropout (default: 0)",
    )
    run = p.add_argument_group("where")
    run.add_argument(
        "--device",
        default="auto",
        help="auto (a CUDA GPU if there is one, else the CPU), cpu, cuda, cuda:N or mps (default: "
        "auto)",
    )
    run.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        help="of multiplications; auto: bf16 on a CPU with AMX or a GPU that has it, else fp32 "
        "(default: auto)",
    )
    data = p.add_argument_group("data")
    data.add_argument(
        "--data",
        type=named_path,
        default=Path("data"),
        help="folder of CIFAR-10, downloaded if need be",
    )
    data.add_argument(
        "--image-folder",
        type=named_path,
        help="train on a folder of class-named subfolders of images instead, with train/ and test/ "
        "above them or without (then a fixed tenth is the test)",
    )
    data.add_argument("--strict", action="store_true", help="stop at an unreadable image")
    data.add_argument("--origin", help="what the model card says about where the images come from")
    knobs = p.add_argument_group(
        "recipe", "each overrides the chosen recipe; defaults are report's"
    )
    for field in KNOBS:
        _add_knob(knobs, field)
    return p


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return int(text)


def _add_knob(group: argparse._ArgumentGroup, field) -> None:
    flag, default = "--" + field.name.replace("_", "-"), field.default
    text = f"{field.metadata['help']} (default: {default})".replace("%", "%%")
    if isinstance(default, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        allowed = choices(field.type)
        kind = str if allowed else type(default)
        metavar = None if allowed else {int: "N", float: "X"}[kind]
        group.add_argument(flag, type=kind, choices=allowed, metavar=metavar, help=text)


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 a mistake, 130 stopped by Ctrl-C, 1 nobody reads the output."""
    arguments = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(arguments)
    return run_command("train.py", lambda: _train(args, arguments))


def _train(args: argparse.Namespace, arguments: list[str]) -> int:
    out = args.out or Path("runs") / (args.recipe or DEFAULT_RECIPE.name)
    # Imported here: --help should not wait for torch.
    from cifar_torch.checkpoint import load_checkpoint
    from cifar_torch.data import Data, load_data
    from cifar_torch.device import prepare_cpu
    from cifar_torch.progress import Stopped
    from cifar_torch.run import begun_with
    from cifar_torch.training import train

    if args.image_folder and out.resolve().is_relative_to(args.image_folder.resolve()):
        raise UserError(
            f"{out} lies in the folder of the images, where it would be taken for a class; choose "
            "another --out."
        )
    prepare_cpu()  # before --start-from is loaded, which makes threads
    begun = begun_with(out) if args.resume else None

    def load() -> Data:
        if begun and begun.from_folder and not args.image_folder:
            raise UserError(f"{out} was begun with a folder of images: add --image-folder.")
        data = load_data(args.image_folder, args.data, args.strict)
        origin = args.origin or (begun and begun.origin)
        return replace(data, origin=origin) if origin else data

    recipe = RECIPES[args.recipe or DEFAULT_RECIPE.name]
    if begun and args.recipe in (None, begun.recipe.name):
        recipe = begun.recipe
    seed, precision = (begun.seed, begun.precision) if begun else (0, "auto")
    changes = {knob.name: getattr(args, knob.name) for knob in KNOBS}
    try:
        checkpoint = train(
            load,
            changed(recipe, **changes),
            out,
            device=args.device,
            precision=args.precision or precision,
            seed=seed if args.seed is None else args.seed,
            resume=args.resume,
            start_from=load_checkpoint(args.start_from) if args.start_from else None,
        )
    except Stopped as stopped:
        starter = "torchrun ..." if "RANK" in os.environ else "python"
        again = shlex.join([*arguments, *([] if args.resume else ["--resume"])])
        if os.environ.get("RANK", "0") == "0":
            print(f"{stopped} Go on with:\n  {starter} train.py {again}", file=sys.stderr)
        return 130
    if checkpoint:
        print(f"Saved in {out}.\nAccuracy: {checkpoint.metrics['accuracy']:.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
