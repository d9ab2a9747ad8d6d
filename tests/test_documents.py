"""What the documents say is what was measured of the shipped checkpoints, and how the rooms lie."""

import ast
import json
import re

import pytest

from cifar_torch.card import model_card
from cifar_torch.checkpoint import load_checkpoint
from cifar_torch.webui.words import Words
from tests.server import ROOT

SHIPPED = [ROOT / "checkpoints" / name for name in ("best", "report")]  # others are people's own
READMES = {"en": "README.md", "vi": "README.vi.md"}


def told(figure: str, text: str) -> bool:
    """Whether it stands there, and not as the end of a longer one."""
    return re.search(rf"(?<![\d.,]){re.escape(figure)}", text) is not None


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f.name)
@pytest.mark.parametrize("language", READMES)
def test_the_readme_tells_the_measured_accuracy(folder, language):
    metrics, words = json.loads((folder / "metrics.json").read_text()), Words(language)
    rows = (ROOT / READMES[language]).read_text("utf-8").splitlines()
    (row,) = [row for row in rows if row.startswith(f"| [checkpoints/{folder.name}]")]
    assert f"**{words.percent(metrics['accuracy'], 2)}**" in row
    for end in metrics["accuracy_ci95"]:
        assert words.number(100 * end, 2) in row


@pytest.mark.parametrize("language", READMES)
def test_the_readme_tells_how_honest_best_is(language):
    metrics = json.loads((ROOT / "checkpoints" / "best" / "metrics.json").read_text())
    text, words = (ROOT / READMES[language]).read_text("utf-8"), Words(language)
    for error in (metrics["ece"], metrics["uncalibrated"]["ece"]):
        assert told(words.percent(error), text)
    photos = metrics["photos"]
    in_this_order = [
        str(photos["known"]),
        *(words.percent(s, 0) for s in (photos["accuracy"], photos["answered_right"])),
        str(photos["none"]),
        words.percent(photos["none_answered_none"], 0),
        *(words.number(photos[name], 3) for name in ("none_auroc", "none_auroc_photos")),
    ]
    assert re.search(
        r"(?!\d).{,150}?(?<![\d.,])".join(map(re.escape, in_this_order)), text, re.DOTALL
    )


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f.name)
def test_the_card_tells_what_was_measured(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    card = (folder / "README.md").read_text("utf-8")
    assert f"accuracy **{metrics['accuracy']:.2%}**" in card
    assert f"calibration error (ECE, 15 bins) {metrics['ece']:.1%}" in card
    assert card.startswith(model_card(load_checkpoint(folder)))


def imported(room: str) -> set[str]:
    """The rooms that the files of one import from."""
    place = ROOT / "cifar_torch" / room
    files = place.glob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                if node.module == "cifar_torch":
                    found |= {alias.name for alias in node.names}
                elif node.module.startswith("cifar_torch."):
                    found.add(node.module.split(".")[1])
    return found - {room}


def test_the_architecture_lists_every_room_and_none_imports_from_above():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms = re.findall(r"^  (\w+)(?:\.py|/) ", text.split("```")[1], re.MULTILINE)
    there = {path.stem for path in (ROOT / "cifar_torch").iterdir() if path.suffix == ".py"}
    assert there - {"__init__"} == set(rooms) - {"api", "webui"}
    for i, room in enumerate(rooms):
        assert not imported(room) & set(rooms[:i]), room
