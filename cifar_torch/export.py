"""A checkpoint -> one ONNX file that answers as the classifier does, calibration and all."""

import json
import math
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from cifar_torch.checkpoint import Checkpoint, versions
from cifar_torch.errors import UserError
from cifar_torch.evaluation import energy, log_probabilities, logits_of
from cifar_torch.files import replaced_file
from cifar_torch.images import IMAGE_SIZE

OUTPUTS = ("probabilities", "familiarity", "none")


class OnnxClassifier(nn.Module):
    """What the file computes: images (N, 3, 32, 32) uint8 RGB -> calibrated probabilities
    (N, classes), familiarity (N,), and none (N,) bool, which is «none of these».

    Of a large picture the classifier looks at several views (`images.look`); each is an image here.
    """

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        self.network = checkpoint.model
        self.mirror, self.temperature = checkpoint.mirror, checkpoint.temperature
        none_below = checkpoint.none_below
        self.none_below = -math.inf if none_below is None else none_below

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = logits_of(self.network, images, self.mirror)
        familiarity = energy(logits)
        probabilities = log_probabilities(logits, self.temperature).exp()
        return probabilities, familiarity, familiarity < self.none_below


def export_onnx(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write the ONNX file, whole or not at all. Its metadata has the class names as JSON.

    Raises UserError: the packages onnx and onnxscript are missing, or `path` cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise UserError(f"{str(path)!r} is no name of an ONNX file; as in --out best.onnx.")
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise UserError(
            f"ONNX files need a package that is not here ({error.name}): pip install onnx "
            "onnxscript."
        ) from error
    # Two of them: torch.export takes a size of 1 for one that never changes.
    example = torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    program = torch.onnx.export(
        OnnxClassifier(checkpoint).eval(),
        (example,),
        input_names=["images"],
        output_names=OUTPUTS,
        dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}},
        dynamo=True,
        verbose=False,
    )
    model = cast(torch.onnx.ONNXProgram, program).model_proto
    meta = {
        name: getattr(checkpoint, name) for name in ("class_names", "temperature", "none_below")
    }
    meta = {name: json.dumps(value, ensure_ascii=False) for name, value in meta.items()}
    onnx.helper.set_model_props(model, meta | {"checkpoint": checkpoint.title, **versions()})
    try:
        with replaced_file(path) as new:
            onnx.save(model, new)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}.") from error
