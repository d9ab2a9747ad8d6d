"""`python -m cifar_torch` as a user types it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from cifar_torch import evaluation, figures
from cifar_torch.__main__ import main
from cifar_torch.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cifar_torch.data import CIFAR10_CLASSES, load_test_images
from cifar_torch.evaluation import measure
from cifar_torch.evaluation_text import confusion_lines
from cifar_torch.model import CifarNet
from tests.commands import call_cifar_torch, run_cifar_torch
from tests.pictures import KINDS, draw_thing, write_image_folder
from tests.server import ROOT

REPORT = ROOT / "checkpoints" / "report"


COMMANDS = [["predict"], ["evaluate"], ["export"], ["import-keras"], ["summary"], ["samples"]]


@pytest.mark.parametrize("command", [[], *COMMANDS])
def test_help(command):
    done = run_cifar_torch(*command, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m cifar_torch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["predikt"], "invalid choice: 'predikt'"),
        (["summary", "--depth", "2"], "unrecognized arguments"),
        (["predict", "x.jpg", "--checkpoint", "nowhere"], "there is no checkpoint folder nowhere"),
        (["evaluate", "nowhere", "--image-folder", "x"], "there is no checkpoint folder nowhere"),
        (["samples", "--image-folder", "nowhere"], "there is no folder nowhere"),
        (["predict", "nowhere.jpg"], "nowhere.jpg: No such file"),
        (["predict", "docs/nowhere.jpg"], "docs/nowhere.jpg: No such file"),
        (["summary", "--num-classes", "100000000000"], "must be from 2 to 10000"),
        (["export", "nowhere"], "there is no checkpoint folder nowhere"),
        (["evaluate", REPORT, "--image-folder", "x"], "there is no folder x"),
        (["predict", "README.md"], "README.md is not a picture that can be read"),
    ],
)
def test_mistakes_end_with_a_sentence(arguments, message):
    done = call_cifar_torch(*arguments)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is full")
def test_an_output_that_cannot_be_written_ends_with_a_sentence():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "cifar_torch", "summary"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert re.fullmatch(r"python -m cifar_torch: .*No space left on device.*\n", done.stderr)


def test_summary_is_the_reports_figure_16():
    lines = call_cifar_torch("summary").stdout.splitlines()
    assert lines[2].startswith("conv2d (Conv2D)") and lines[2].endswith("896")
    assert "Total params: 2,915,114 (11.12 MB)" in lines


def test_samples_draws_nine_images_of_a_folder(tmp_path):
    folder = write_image_folder(tmp_path / "things", 20)
    done = call_cifar_torch("samples", "--image-folder", folder, "--out", tmp_path / "s.png")
    assert done.returncode == 0, done.stderr
    assert np.asarray(Image.open(tmp_path / "s.png")).std() > 20
    done = call_cifar_torch("samples", "--image-folder", folder, "--out", folder)
    assert done.returncode == 2 and "is a folder" in done.stderr


def test_predict_prints_a_line_and_json(tmp_path):
    draw_thing("disc", 1).save(tmp_path / "thing.png")
    text = run_cifar_torch("predict", tmp_path / "thing.png").stdout
    assert text.startswith(f"{tmp_path / 'thing.png'}: ") and text.count("%") == 3
    row = json.loads(call_cifar_torch("predict", "--json", tmp_path / "thing.png").stdout)
    assert len(row["confidences"]) == 10
    assert sum(row["confidences"].values()) == pytest.approx(1, abs=1e-4)


def test_predict_names_every_picture_of_a_folder(tmp_path):
    things = write_image_folder(tmp_path / "things", 1)
    (things / "disc" / "notes.txt").write_text("no picture")
    done = call_cifar_torch("predict", "--json", things)
    assert done.returncode == 0, done.stderr
    named = [json.loads(line)["image"] for line in done.stdout.splitlines()]
    assert named == sorted(str(path) for path in things.rglob("*.png")) and len(named) == len(KINDS)
    (tmp_path / "empty").mkdir()
    assert "Passed over" in done.stderr and "1 file of other kinds (.txt)" in done.stderr
    picture = things / "disc" / "000.png"
    done = call_cifar_torch("predict", tmp_path / "empty", "", picture)
    assert done.returncode == 2 and "There is no picture in the folder" in done.stderr
    assert done.stdout.startswith(f"{picture}: ") and done.stdout.count("\n") == 1


def test_own_classes_are_measured_on_their_own_images_and_the_figures_kept(tmp_path):
    model = CifarNet(num_classes=4)
    config = {**model.settings(), "class_names": list(KINDS)}
    own = tmp_path / "own"
    save_checkpoint(Checkpoint(model, config), own)
    refused = call_cifar_torch("evaluate", own)
    assert refused.returncode == 2 and "classes of its own" in refused.stderr
    folder = write_image_folder(tmp_path / "things", 3)
    options = ["--image-folder", folder, "--save", "--out", tmp_path / "figures"]
    done = call_cifar_torch("evaluate", own, *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures" / "confusion.png").exists() and (own / "confusion.png").exists()
    accuracy = load_checkpoint(own).metrics["accuracy"]
    card = (own / "README.md").read_text()
    measured_on = "all of the folder things, which it may have been trained on"
    assert f"On 12 images ({measured_on}): accuracy **{accuracy:.2%}**" in card
    assert "cifar10" not in card
    assert ModelCard(card).data.eval_results[0].dataset_name == f"images {measured_on}"
    (own / "confusion.png").unlink()
    done = call_cifar_torch("evaluate", own, "--image-folder", folder, "--out", own)
    assert done.returncode == 0 and (own / "confusion.png").exists(), done.stderr
    inside = {"cwd": own, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    done = run_cifar_torch("evaluate", ".", "--image-folder", folder, "--save", **inside)
    assert done.returncode == 0, done.stderr  # though the folder that it stands in was replaced
    options = ["--image-folder", folder, "--out", own / "config.json"]
    refused = run_cifar_torch("evaluate", own, *options)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


def write_ten(folder: Path) -> Path:
    """A test image of each of CIFAR-10's classes, which knows nothing of them."""
    for name, kind in zip(CIFAR10_CLASSES, 3 * KINDS, strict=False):
        (folder / "ten" / "test" / name).mkdir(parents=True)
        draw_thing(kind, 0).save(folder / "ten" / "test" / name / "0.png")
    return folder / "ten"


def test_a_card_tells_other_images_than_the_checkpoints_own(tmp_path):
    own, ten = shutil.copytree(REPORT, tmp_path / "own"), write_ten(tmp_path)
    before = json.loads((own / "metrics.json").read_text())
    assert before["measured_on"] is None and "photos" in before
    assert call_cifar_torch("evaluate", own, "--image-folder", ten, "--save").returncode == 0
    found, card = json.loads((own / "metrics.json").read_text()), (own / "README.md").read_text()
    assert found["measured_on"] == "of the folder ten" and found["images"] == 10
    assert "photos" not in found  # those were told from other test images
    assert "On 10 images (of the folder ten): accuracy" in card
    assert ModelCard(card).data.eval_results[0].dataset_name == "images of the folder ten"
    other = write_ten(tmp_path / "other")  # a folder of the same name, with other images
    shutil.copy(next(other.rglob("*.png")), other / "test" / "cat" / "1.png")
    found["photos"] = before["photos"]
    (own / "metrics.json").write_text(json.dumps(found))
    assert call_cifar_torch("evaluate", own, "--image-folder", ten, "--save").returncode == 0
    assert "photos" in json.loads((own / "metrics.json").read_text())
    assert call_cifar_torch("evaluate", own, "--image-folder", other, "--save").returncode == 0
    assert "photos" not in json.loads((own / "metrics.json").read_text())
    refused = call_cifar_torch("evaluate", REPORT, "--image-folder", ten, "--out", own)
    assert refused.returncode == 2 and "is another checkpoint" in refused.stderr
    config = json.loads((own / "config.json").read_text())
    images = load_test_images(ten, CIFAR10_CLASSES)
    config["data"]["test_fingerprint"] = images.fingerprint()
    (own / "config.json").write_text(json.dumps(config))
    assert call_cifar_torch("evaluate", own, "--image-folder", ten, "--save").returncode == 0
    assert "On 10 test images: accuracy" in (own / "README.md").read_text()


def test_figures_of_a_network_that_was_replaced_meanwhile_are_not_kept(
    tmp_path, monkeypatch, capsys
):
    folder, own = write_image_folder(tmp_path / "things", 3), tmp_path / "own"

    def save():
        model = CifarNet(num_classes=4)
        save_checkpoint(Checkpoint(model, {**model.settings(), "class_names": list(KINDS)}), own)

    def measure_slowly(*arguments):
        save()
        return measure(*arguments)

    save()
    monkeypatch.setattr(evaluation, "measure", measure_slowly)
    assert main(["evaluate", str(own), "--image-folder", str(folder), "--save"]) == 2
    assert "was changed while it was measured" in capsys.readouterr().err
    assert "accuracy" not in load_checkpoint(own).metrics


def test_a_reader_that_has_enough_hurts_nobody():
    command = f"{sys.executable} -m cifar_torch summary | true"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


def test_a_file_may_have_any_name(tmp_path):
    name = os.fsencode(tmp_path) + b"/bad\xff.png"
    draw_thing("disc", 1).save(tmp_path / "thing.png")
    os.rename(tmp_path / "thing.png", name)
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = run_cifar_torch("predict", os.fsdecode(name), env=strict)
    assert done.returncode == 0 and "bad\\udcff.png: " in done.stdout


def test_a_class_may_have_any_name(tmp_path):
    folder = write_image_folder(tmp_path / "things", 5)
    (folder / KINDS[0]).rename(folder / "a$b_{$c")
    done = run_cifar_torch("samples", "--image-folder", folder, "--out", tmp_path / "nine")
    assert done.returncode == 0 and f"Drawn: {tmp_path / 'nine.png'}" in done.stdout
    assert (tmp_path / "nine.png").exists()
    names = sorted({"a$b_{$c", *KINDS[1:]})
    figures.save_figure(figures.confusion_matrix(torch.eye(4).tolist(), names), tmp_path / "c.png")
    assert (tmp_path / "c.png").exists()


def test_confusions_are_printed_as_a_table():
    assert confusion_lines([[3, 1], [0, 200]], ["cat", "sea horse"])[1:] == [
        "                  0   1",
        "   0 cat         75  25",
        "   1 sea horse    . 100",
    ]
    few = confusion_lines([[0, 0], [1, 999]], ["a", "b"])
    assert few[2:] == ["   0 a    .   .", "   1 b    0 100"]
    assert confusion_lines([[1] * 21] * 21, [str(i) for i in range(21)]) == []


def test_evaluate_draws_figures_and_refuses_other_classes(tmp_path):
    folder = write_image_folder(tmp_path / "things", 3)
    done = call_cifar_torch("evaluate", REPORT, "--image-folder", folder)
    assert done.returncode == 2 and "needs a folder for each of the classes" in done.stderr
    ten = write_ten(tmp_path)
    flat = call_cifar_torch("evaluate", REPORT, "--image-folder", ten / "test")
    assert "has no test/: all of its images are measured" in flat.stderr
    options = ["--image-folder", ten, "--out", tmp_path / "figures", "--json"]
    done = call_cifar_torch("evaluate", REPORT, *options)
    found = json.loads(done.stdout)
    assert found["images"] == 10 and len(found["confusion"]) == 10
    low, high = found["accuracy_ci95"]
    assert low <= found["accuracy"] <= high
    for name in ("cat", "none"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            draw_thing("ring", i, size=90).save(tmp_path / "photos" / name / f"{i}.png")
    with_photos = call_cifar_torch("evaluate", REPORT, *options, "--photos", tmp_path / "photos")
    photos = json.loads(with_photos.stdout)["photos"]
    assert (photos["known"], photos["none"]) == (2, 2)
    for key in ("accuracy", "answered_right", "none_accepted_at_95", "none_answered_none"):
        assert 0 <= photos[f"{key}_ci95"][0] <= photos[key] <= photos[f"{key}_ci95"][1] <= 1
    (tmp_path / "photos" / "none").rename(tmp_path / "photos" / "dog")
    only_known = call_cifar_torch(
        "evaluate", REPORT, *options[:-1], "--photos", tmp_path / "photos"
    )
    assert "What is taken for what" in only_known.stdout
    assert (
        "known things (4): " in only_known.stdout and "none of the classes" not in only_known.stdout
    )
    for file in (tmp_path / "photos").rglob("*.png"):
        file.write_text("not a picture")
    broken = call_cifar_torch("evaluate", REPORT, *options, "--photos", tmp_path / "photos")
    assert broken.returncode == 2 and "none of the photographs" in broken.stderr
    for name in ("confusion.png", "reliability.png"):
        assert np.asarray(Image.open(tmp_path / "figures" / name)).std() > 5
