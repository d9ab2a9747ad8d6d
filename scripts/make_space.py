"""Writes the folder that a Hugging Face Space needs: `python scripts/make_space.py DIR`.

Needs nothing but Python. Written again into the same folder, or into the clone of a new Space, it
replaces what it wrote and leaves the rest, .git for one, alone.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("app.py", "cifar_torch", "checkpoints", "requirements.txt")
WRITTEN = ("README.md", ".gitattributes")
LEFT_OUT = (".*", "*.pyi", "__pycache__")
UNFINISHED = "training_state.safetensors"

BODY = """
# cifar-torch

CIFAR-10 with one small network: classify a picture, look inside the network, and call it from
code. Everything here was written by `make space` of the project; change it there.
"""
ATTRIBUTES = """\
*.safetensors filter=lfs diff=lfs merge=lfs -text
*.png filter=lfs diff=lfs merge=lfs -text
*.jpg filter=lfs diff=lfs merge=lfs -text
"""


def front_matter(readme: Path) -> str:
    """The settings of the Space, between the two --- at the top of the project's README."""
    lines = readme.read_text("utf-8").splitlines(keepends=True)
    if "---\n" not in lines[1:] or lines[0] != "---\n":
        raise ValueError(f"{readme.name} does not begin with the settings of a Space")
    return "".join(lines[: lines.index("---\n", 1) + 1])


def is_ours(folder: Path) -> bool:
    """Whether the folder is new, the clone of a new Space, or holds what this script wrote."""
    names = {path.name for path in folder.iterdir()} - {".git"}
    return names <= set(WRITTEN) or ("cifar_torch" in names and names <= {*WRITTEN, *COPIED})


def make_space(folder: Path) -> list[str]:
    """Names of the checkpoints in it. Raises OSError or ValueError, with a sentence."""
    readme = front_matter(ROOT / "README.md") + BODY
    checkpoints = ROOT / "checkpoints"
    found = {path.parent.name for path in checkpoints.glob("[!.]*/model.safetensors")}
    unfinished = {path.parent.name for path in checkpoints.glob(f"*/{UNFINISHED}")}
    if not found - unfinished:
        raise ValueError("there is no checkpoint in checkpoints/; train.py makes one")
    if any((ROOT / name) in (folder.resolve(), *folder.resolve().parents) for name in COPIED):
        raise ValueError(f"{folder} is a part of the project itself; name a folder beside it")
    if folder.exists() and not is_ours(folder):
        raise ValueError(f"{folder} holds other files; name a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if target.is_dir():
            shutil.rmtree(target)
        if source.is_dir():
            unwanted = unfinished if source == checkpoints else ()
            left_out = shutil.ignore_patterns(*LEFT_OUT, *unwanted)
            shutil.copytree(source, target, ignore=left_out)
        else:
            shutil.copy(source, target)
    (folder / "README.md").write_text(readme, "utf-8")
    (folder / ".gitattributes").write_text(ATTRIBUTES, "utf-8")
    return sorted(found - unfinished)


def main() -> None:
    parser = argparse.ArgumentParser(
        usage="make space DIR=FOLDER, or python scripts/make_space.py FOLDER", description=__doc__
    )
    parser.add_argument("folder", metavar="DIR", help="the folder to write, new or empty")
    folder = parser.parse_args().folder
    if not folder:
        sys.exit("Name the folder to write: make space DIR=../my-space")
    folder = Path(folder).expanduser()
    try:
        names = make_space(folder)
    except (OSError, ValueError) as error:
        sys.exit(f"Cannot write the Space: {error}.")
    print(f"Wrote {folder} with these checkpoints: {', '.join(names)}.")
    print(f"To publish it: cd {shlex.quote(str(folder))} && gradio deploy")


if __name__ == "__main__":
    main()
