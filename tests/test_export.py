"""ONNX files, run by ONNX Runtime, beside the classifier they come from."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from cifar_torch.checkpoint import Checkpoint
from cifar_torch.classifier import Classifier
from cifar_torch.errors import UserError
from cifar_torch.export import export_onnx
from cifar_torch.images import look, open_image
from cifar_torch.model import CifarNet
from tests.commands import run_cifar_torch
from tests.conftest import EXAMPLES
from tests.server import ROOT


def answers(path, images):
    """Probabilities, familiarity and none of images (N, 3, 32, 32) uint8."""
    session = onnxruntime.InferenceSession(path)
    return session.run(["probabilities", "familiarity", "none"], {"images": images.numpy()})


def test_the_file_answers_as_the_classifier_does(tmp_path):
    done = run_cifar_torch("export", ROOT / "checkpoints" / "best", "--out", tmp_path / "best.onnx")
    assert done.returncode == 0 and "best.onnx (11.7 MB)" in done.stdout, done.stderr
    pictures = [look(open_image(path)) for path in sorted(EXAMPLES.glob("*.png"))]
    classifier = Classifier.load(ROOT / "checkpoints" / "best", precision="fp32")
    for views in pictures:  # of two sizes of batch: one view, and three
        images = torch.from_numpy(views).permute(0, 3, 1, 2).contiguous()
        probabilities, familiarity, none = answers(tmp_path / "best.onnx", images)
        expected = classifier.probabilities(images).numpy()
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert none.tolist() == (familiarity < classifier.none_below).tolist()
        answer = classifier.classify_views([views])[0]
        assert none.any() == (answer.class_name is None)


def test_the_metadata_says_what_the_outputs_mean(tmp_path):
    config = {"class_names": ["mèo", "chó", "cá"], "temperature": 0.5, "none_below": 1.5}
    export_onnx(Checkpoint(CifarNet(3).eval(), config), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["class_names"]) == config["class_names"]
    assert (float(meta["temperature"]), float(meta["none_below"])) == (0.5, 1.5)


def test_without_mirror_images_and_threshold(tmp_path):
    torch.manual_seed(0)
    model = CifarNet(2, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4]).eval()
    export_onnx(Checkpoint(model, {"class_names": ["a", "b"]}), tmp_path / "m.onnx")
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    probabilities, familiarity, none = answers(tmp_path / "m.onnx", images)
    with torch.no_grad():
        logits = model(images)
    np.testing.assert_allclose(probabilities, logits.softmax(dim=1).numpy(), atol=1e-5)
    np.testing.assert_allclose(familiarity, logits.logsumexp(dim=1).numpy(), atol=1e-5)
    assert not none.any()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="pip install onnx onnxscript"):
        export_onnx(Checkpoint(CifarNet(2), {"class_names": ["a", "b"]}), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/m.onnx", "x" * 300 + ".onnx", "", "file"])
def test_no_place_for_a_file_is_a_sentence(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"cannot write|is no name of an ONNX file"):
        export_onnx(Checkpoint(CifarNet(2), {"class_names": ["a", "b"]}), place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken.onnx").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*taken\.onnx: Is a directory"):
        export_onnx(Checkpoint(CifarNet(2), {"class_names": ["a", "b"]}), tmp_path / "taken.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]
