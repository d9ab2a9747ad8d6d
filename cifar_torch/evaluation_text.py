"""The figures of an evaluation as lines of text."""

from typing import Any

from cifar_torch.evaluation import BINS, confusion_shares

MAX_COLUMNS = 20  # of a printed confusion matrix; its figure has all


def describe(metrics: dict[str, Any]) -> str:
    """Those about the test images."""
    low, high = metrics["accuracy_ci95"]
    width = max(map(len, metrics["by_class"]))
    return "\n".join(
        [
            f"Accuracy: {metrics['accuracy']:.2%} (95% interval {low:.2%} to {high:.2%}, "
            f"{metrics['images']:,} images)",
            *_one_view(metrics),
            f"Loss: {metrics['loss']:.4f}",
            f"Calibration error (ECE, {BINS} bins): {metrics['ece']:.2%}",
            *(f"  {name:<{width}}  {share:.1%}" for name, share in metrics["by_class"].items()),
            *confusion_lines(metrics["confusion"], list(metrics["by_class"])),
        ]
    )


def confusion_lines(counts: list[list[int]], names: list[str]) -> list[str]:
    """The confusion matrix as lines of text; of more classes than a terminal can show, none."""
    if len(names) > MAX_COLUMNS:
        return []
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
    """Those about photographs, with their 95% intervals."""

    def figure(key: str, form: str = ".1%") -> str:
        low, high = photos[f"{key}_ci95"]
        return f"{photos[key]:{form}} ({low:{form}} to {high:{form}})"

    lines = []
    if photos["known"]:
        lines += [
            f"Photographs of known things ({photos['known']}): {figure('accuracy')} right",
            f"  {figure('answered_right')} right and not answered «none»",
        ]
    if photos["none"]:
        lines += [
            f"Photographs of none of the classes ({photos['none']}): "
            f"{figure('none_answered_none')} answered «none»",
            f"  {figure('none_accepted_at_95')} accepted when 95% of the test images are (FPR95)",
            f"  AUROC against the test images {figure('none_auroc', '.3f')}",
        ]
    if photos["known"] and photos["none"]:
        area = figure("none_auroc_photos", ".3f")
        lines.append(f"  AUROC against the photographs of known things {area}")
    return "\n".join(lines)
