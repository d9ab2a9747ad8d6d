"""How good a classifier's answers are: accuracy with its interval, calibration, confusions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar_torch.model import CifarNet

BINS = 15
Z_95 = 1.96  # standard deviations to either side of a 95% interval
# Images: 512 would be 3% faster on a CPU, and its feature maps need four times the memory; a GPU
# wants few launches.
CPU_BATCH, GPU_BATCH = 128, 2048


@torch.inference_mode()
def predict_logits(model: CifarNet, images: Tensor, mirror: bool = False) -> Tensor:
    """Logits (N, M, classes) float32 of images (N, 3, 32, 32) uint8, on their device, in batches:
    of each image alone, M = 1, or with `mirror` of it and its mirror image, M = 2.

    Without dropout, whatever the mode.
    """
    training = model.training
    if training:  # setting the mode of every layer takes as long as a layer does
        model.eval()
    size = CPU_BATCH if images.device.type == "cpu" else GPU_BATCH
    logits = [logits_of(model, batch, mirror) for batch in images.split(size)]
    if training:
        model.train()
    return torch.cat(logits)


def logits_of(model: CifarNet, images: Tensor, mirror: bool) -> Tensor:
    """Logits (N, M, classes) float32 of images (N, 3, 32, 32), M as above, in one pass: for a
    single picture both take hardly longer than one."""
    views = torch.cat([images, images.flip(-1)]) if mirror else images
    return model(views).float().unflatten(0, (2 if mirror else 1, -1)).transpose(0, 1)


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities (N, classes), calibrated by the temperature, from the logits
    (N, M, classes) of `predict_logits`: of the mean probability of image and mirror image."""
    each = (logits / temperature).log_softmax(dim=2)
    return each.logsumexp(dim=1) - math.log(logits.shape[1])


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature at which logits (N, M, classes) give the labels the least cross-entropy.

    The one-parameter calibration of Guo et al. (arXiv 1706.04599). Of images alone the loss is
    convex in 1 / temperature, and nearly so with their mirror images: a golden-section search.
    """
    low, high, golden = 0.05, 20.0, (math.sqrt(5) - 1) / 2  # of 1 / temperature
    logits = logits.double()

    def loss(inverse: float) -> float:
        return F.nll_loss(log_probabilities(logits, 1 / inverse), labels).item()

    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95% interval of a share, by Wilson's score (JASA 22, 1927)."""
    if total == 0:
        return 0.0, 1.0
    z, share = Z_95, right / total
    z2n = z * z / total
    middle = (share + z2n / 2) / (1 + z2n)
    half = z / (1 + z2n) * math.sqrt(share * (1 - share) / total + z2n / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion_shares(counts: Sequence[Sequence[int]]) -> list[list[float]]:
    """A confusion matrix of counts, a row a true class, as shares of its rows."""
    return [[count / max(sum(row), 1) for count in row] for row in counts]


def reliability_bins(probabilities: Tensor, labels: Tensor) -> list[dict[str, float]]:
    """Mean confidence, accuracy and share of the images in BINS equal bins of confidence."""
    confidence, answers = probabilities.max(dim=1)
    right = (answers == labels).double()
    index = (confidence.double() * BINS).ceil().long().clamp(1, BINS) - 1
    count, conf, hits = (
        torch.zeros(BINS, dtype=torch.double).index_add(0, index, values)
        for values in (torch.ones_like(right), confidence.double(), right)
    )
    filled = count.clamp(min=1)
    rows = torch.stack([conf / filled, hits / filled, count / len(labels)], dim=1).tolist()
    return [dict(zip(("confidence", "accuracy", "share"), row, strict=True)) for row in rows]


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """Expected calibration error (Guo et al., arXiv 1706.04599): the mean gap between confidence
    and accuracy, weighted by how many images are in each bin."""
    return sum(b["share"] * abs(b["confidence"] - b["accuracy"]) for b in bins)


def calibration_interval(
    probabilities: Tensor, labels: Tensor, resamples: int = 200
) -> tuple[float, float]:
    """The 95% interval of the calibration error, by the basic bootstrap: resampling adds error of
    its own, which mirroring the quantiles at the measured value takes away again. It holds that
    value, which with few images has too much of such error itself."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(resamples):
        again = torch.randint(len(labels), (len(labels),), generator=generator)
        errors.append(calibration_error(reliability_bins(probabilities[again], labels[again])))
    low, high = torch.tensor(errors).quantile(torch.tensor([0.025, 0.975])).tolist()
    measured = calibration_error(reliability_bins(probabilities, labels))
    return max(0.0, min(2 * measured - high, measured)), max(2 * measured - low, measured)


def energy(logits: Tensor) -> Tensor:
    """How familiar images look, (N,), from their logits (N, M, classes) before calibration: the
    free energy of Liu et al. (arXiv 2010.03759), its sign turned. What is none of the classes
    scores low."""
    return logits.mean(dim=1).logsumexp(dim=1)


@dataclass(frozen=True)
class Views:
    """Pictures of which the network saw several views each: the logits (views, M, classes) of all
    in a row, and how many of them are of each picture."""

    logits: Tensor
    counts: list[int]

    def probabilities(self, temperature: float) -> Tensor:
        """Calibrated probabilities (N, classes): the geometric mean over a picture's views."""
        views = log_probabilities(self.logits, temperature).split(self.counts)
        return torch.stack([each.mean(dim=0) for each in views]).softmax(dim=1)

    def familiarity(self) -> Tensor:
        """How familiar the pictures look, (N,): as much as the view that looks least so."""
        return torch.stack([each.min() for each in energy(self.logits).split(self.counts)])


def acceptance_threshold(scores: Tensor, accepted: float = 0.95) -> float:
    """The score that this share of pictures of the classes reaches."""
    return scores.quantile(1 - accepted).item()


def auroc(known: Tensor, unknown: Tensor) -> float:
    """The chance that a random known picture scores above a random unknown one. Equals: half."""
    unknown = unknown.sort().values
    below = torch.searchsorted(unknown, known) + torch.searchsorted(unknown, known, right=True)
    return below.double().mean().item() / (2 * len(unknown))


def auroc_interval(value: float, known: int, unknown: int) -> tuple[float, float]:
    """The 95% interval of an AUROC, by Hanley and McNeil (Radiology 143, 1982)."""
    both_known, both_unknown = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value)
    variance += (known - 1) * (both_known - value**2) + (unknown - 1) * (both_unknown - value**2)
    half = Z_95 * math.sqrt(variance / (known * unknown))
    return max(0.0, value - half), min(1.0, value + half)


def measure_photos(
    photos: Views,
    labels: Tensor,
    test_logits: Tensor,
    temperature: float,
    none_below: float | None,
) -> dict[str, Any]:
    """The figures about photographs, labelled (N,), with -1 those of none of the classes, beside
    the logits (images, M, classes) of test images.

    `answered_right` is the share of the others that get their class and not «none»;
    `none_answered_none` the share of those that the classifier says «none» of. `none_auroc` tells
    them from the test images, `none_auroc_photos` from the photographs of known things, which is
    harder. What there is no photograph for is left out.
    """
    score, known = photos.familiarity(), labels >= 0
    answered = score >= (-math.inf if none_below is None else none_below)
    right = photos.probabilities(temperature).argmax(dim=1) == labels
    test_score = energy(test_logits)
    unknown = int((~known).sum())
    metrics: dict[str, Any] = {"known": len(labels) - unknown, "none": unknown}
    if known.any():
        metrics |= _share("accuracy", right[known])
        metrics |= _share("answered_right", (right & answered)[known])
    if unknown:
        metrics |= _separation("none_auroc", test_score, score[~known])
        if known.any():
            metrics |= _separation("none_auroc_photos", score[known], score[~known])
        accepted = score[~known] >= acceptance_threshold(test_score)
        metrics |= _share("none_accepted_at_95", accepted)
        metrics |= _share("none_answered_none", ~answered[~known])
    return metrics


def _separation(name: str, known: Tensor, unknown: Tensor) -> dict[str, Any]:
    """An AUROC and its interval."""
    value = auroc(known, unknown)
    return {name: value, f"{name}_ci95": list(auroc_interval(value, len(known), len(unknown)))}


def _share(name: str, hits: Tensor) -> dict[str, Any]:
    """A figure and its interval."""
    return {
        name: hits.double().mean().item(),
        f"{name}_ci95": list(wilson_interval(int(hits.sum()), len(hits))),
    }


def measure(
    logits: Tensor, labels: Tensor, class_names: Sequence[str], temperature: float = 1.0
) -> dict[str, Any]:
    """Every figure about the answers to labelled images: logits (N, M, classes), labels (N,)."""
    classes, total = len(class_names), len(labels)
    scores = log_probabilities(logits.double(), temperature)
    probabilities, answers = scores.exp(), scores.argmax(dim=1)
    right = int((answers == labels).sum())
    confusion = torch.bincount(labels * classes + answers, minlength=classes**2).view(classes, -1)
    by_class = confusion.diag().double() / confusion.sum(dim=1).clamp(min=1)
    bins = reliability_bins(probabilities, labels)
    metrics = {
        "accuracy": right / total,
        "accuracy_ci95": list(wilson_interval(right, total)),
        "loss": F.nll_loss(scores, labels).item(),
        "ece": calibration_error(bins),
        "ece_ci95": list(calibration_interval(probabilities, labels)),
        "by_class": dict(zip(class_names, by_class.tolist(), strict=True)),
        "confusion": confusion.tolist(),
        "reliability": bins,
        "images": total,
    }
    if logits.shape[1] > 1:
        metrics |= _share("accuracy_one_view", logits[:, 0].argmax(dim=1) == labels)
    if temperature != 1.0:
        before = reliability_bins(log_probabilities(logits.double()).exp(), labels)
        metrics["uncalibrated"] = {"ece": calibration_error(before), "reliability": before}
    return metrics
