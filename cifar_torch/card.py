"""The model card of a checkpoint: README.md in the Hugging Face Hub's format."""

from pathlib import Path
from typing import Any

from cifar_torch.checkpoint import Checkpoint

CARD = "README.md"


def write_card(checkpoint: Checkpoint, folder: Path) -> None:
    (folder / CARD).write_text(model_card(checkpoint), "utf-8")


def model_card(checkpoint: Checkpoint) -> str:
    """The card's text, from the checkpoint's config and metrics alone."""
    config, metrics = checkpoint.config, checkpoint.metrics
    recipe, data = config["recipe"], config["data"]
    title = f"CifarNet, recipe {recipe['name']}"
    parts = [
        _front_matter(config, metrics),
        f"# {title}\n\n"
        "The small convolutional network of a Keras tutorial (Conv-Dropout-Conv-Pool x3, dense "
        f"1024/512/{config['num_classes']}; max-norm 3), trained with "
        "cifar-torch. It takes a 32x32 RGB picture and says which of "
        f"{config['num_classes']} classes it shows: {', '.join(config['class_names'])}.",
        _results(metrics, data) if metrics.get("finished") else "This run has not ended yet.",
        f"## Training\n\n"
        f"- Data: {data['origin']}; {data['train_images']:,} images to train on, "
        f"{data['held_out_images']:,} held out of training, {data['test_images']:,} to test on.\n"
        f"- Recipe: {', '.join(f'{k} {v}' for k, v in recipe.items() if k != 'name')}.\n"
        f"- Seed {config['seed']}, {config['precision']}, on {config['hardware']}, "
        f"{metrics['epochs']} epochs in {metrics['seconds']:,.0f} s "
        f"(PyTorch {config['versions']['torch']}).",
        "## Limits\n\n"
        "It answers with one of its classes for every picture, also for people, drawings and text, "
        "none of which it knows. It saw small, centred pictures only. Not for any decision about a "
        "person, nor where a mistake does harm.",
        "## Use\n\n```python\nfrom cifar_torch.classifier import Classifier\n\n"
        'print(Classifier.load("this folder").classify("photo.jpg"))\n```',
        "![training curves](curves.png)" if checkpoint.history else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(config: dict[str, Any], metrics: dict[str, Any]) -> str:
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: cifar-torch",
        "pipeline_tag: image-classification",
        "tags: [cifar10, image-classification, pytorch_model_hub_mixin]",
    ]
    if "accuracy" in metrics:
        lines += [
            "metrics: [accuracy]",
            "model-index:",
            f"- name: CifarNet {config['recipe']['name']}",
            "  results:",
            "  - task: {type: image-classification}",
            f"    dataset: {{name: '{config['data']['origin']}', type: cifar10, split: test}}",
            f"    metrics: [{{type: accuracy, value: {metrics['accuracy']}}}]",
        ]
    return "\n".join([*lines, "---"])


def _results(metrics: dict[str, Any], data: dict[str, Any]) -> str:
    low, high = metrics["accuracy_ci95"]
    rows = "\n".join(f"| {name} | {share:.1%} |" for name, share in metrics["by_class"].items())
    return (
        f"## Results\n\nOn the {data['test_images']:,} test images: accuracy "
        f"**{metrics['accuracy']:.2%}** (95% interval {low:.2%} to {high:.2%}), cross-entropy "
        f"{metrics['loss']:.3f}, calibration error (ECE, 15 bins) {metrics['ece']:.1%}.\n\n"
        f"| class | accuracy |\n|---|---|\n{rows}\n\n{_confusions(metrics)}"
    )


def _confusions(metrics: dict[str, Any], most: int = 3) -> str:
    names, matrix = list(metrics["by_class"]), metrics["confusion"]
    mistakes = sorted(
        (
            (matrix[i][j] / max(1, sum(matrix[i])), names[i], names[j])
            for i in range(len(names))
            for j in range(len(names))
            if i != j
        ),
        reverse=True,
    )
    told = "; ".join(f"{share:.0%} of {a} taken for {b}" for share, a, b in mistakes[:most])
    return f"Most often confused: {told}."
