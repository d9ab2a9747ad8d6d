"""The model card of a checkpoint: README.md in the Hugging Face Hub's format."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from cifar_torch.checkpoint import CARD, FIGURES, Checkpoint
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.evaluation import BINS, confusion_shares, wilson_interval
from cifar_torch.recipes import KNOBS, RECIPES, Recipe

_TRAINED = {"recipe", "data", "versions", "epochs", "seconds"}  # what is known of a run of ours


def write_card(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the card into a checkpoint folder, showing the figures that are in it."""
    figures = [f"![{title}]({name})" for name, title in FIGURES.items() if (folder / name).exists()]
    (folder / CARD).write_text(model_card(checkpoint) + "\n".join(["", *figures, ""]), "utf-8")


def model_card(checkpoint: Checkpoint) -> str:
    """The card's text, from the checkpoint's config and metrics alone. What only a person can say
    of a checkpoint stands in its config as `notes`."""
    config, metrics = checkpoint.config, checkpoint.metrics
    classes, names = len(config["class_names"]), ", ".join(config["class_names"])
    parts = [
        _front_matter(config, metrics),
        f"# {_name(config)}",
        f"The small convolutional network of a Keras tutorial (Conv-Dropout-Conv-Pool x3, dense "
        f"1024/512/{classes}), {_maker(config)}. It takes a 32x32 RGB picture "
        f"and says which of {classes} classes it shows: {names}.",
        config.get("notes", ""),
        "" if metrics.get("finished", True) else "This run has not ended yet.",
        _results(metrics) if "accuracy" in metrics else "",
        _photos(metrics["photos"]) if "photos" in metrics else "",
        _training(config, metrics) if config.keys() | metrics.keys() >= _TRAINED else "",
        _limits(config),
        "## Use\n\n```python\nfrom cifar_torch.classifier import Classifier\n\n"
        'print(Classifier.load("this folder").classify("photo.jpg"))\n```',
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _name(config: dict[str, Any]) -> str:
    return f"CifarNet, recipe {config['recipe']['name']}" if "recipe" in config else "CifarNet"


def _maker(config: dict[str, Any]) -> str:
    if "imported_from" in config:
        return f"trained with Keras: its weights come from `{config['imported_from']}`"
    return "trained with cifar-torch"


def _origin(config: dict[str, Any]) -> str:
    return config.get("data", {}).get("origin", "unknown")


def _measured_on(config: dict[str, Any], metrics: dict[str, Any]) -> str:
    other = metrics.get("measured_on")
    return f"images {other}" if other else _origin(config)


def _from_folder(config: dict[str, Any], metrics: dict[str, Any]) -> bool:
    """Whether it was measured on other images than CIFAR-10 as torchvision loads it."""
    return bool(metrics.get("measured_on") or config.get("data", {}).get("from_folder", True))


def _training(config: dict[str, Any], metrics: dict[str, Any]) -> str:
    data, recipe = config["data"], asdict(Recipe()) | config["recipe"]
    began = config.get("started_from")
    teachers = ", those of its teachers not counted" if recipe["teacher"] else ""
    knobs = ", ".join(f"{knob.name} {recipe[knob.name]}" for knob in KNOBS)
    return (
        f"## Training\n\n"
        f"- Data: {data['origin']}; {data['train_images']:,} images to train on, "
        f"{data['held_out_images']:,} held out of training, {data['test_images']:,} to test on.\n"
        f"- Command: `{_command(config, recipe)}`.\n"
        + (f"- It began with the weights of the checkpoint `{began}`.\n" if began else "")
        + f"- Recipe: {knobs}.\n"
        f"- {config['precision']} on {config['hardware']}; {_epochs(metrics['epochs'])} in "
        f"{metrics['seconds']:,.0f} s{teachers}; PyTorch {config['versions']['torch']}."
    )


def _command(config: dict[str, Any], recipe: dict[str, Any]) -> str:
    """What trains the same again, but for the places of images and checkpoints."""
    words = ["python train.py", f"--recipe {recipe['name']}"]
    words += [f"--seed {config['seed']}", f"--precision {config['precision']}"]
    named = RECIPES.get(recipe["name"], Recipe())
    for knob in KNOBS:
        value, usual = recipe[knob.name], getattr(named, knob.name)
        flag = knob.name.replace("_", "-")
        if value == usual:
            continue
        if isinstance(usual, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag} {value}")
    if config.get("started_from"):
        words.append("--start-from FOLDER")
    if config["data"].get("from_folder"):
        words.append("--image-folder DIR")
    return " ".join(words)


def _limits(config: dict[str, Any]) -> str:
    answers = (
        "It says «none of these» of pictures that look unlike its training images, and misses many "
        "of them: people, drawings and text too can get a class."
        if config.get("none_below") is not None
        else "It answers with one of its classes for every picture, also for people, drawings and "
        "text, of which it knows nothing."
    )
    return (
        "## What for, and what not\n\nFor teaching and trying out how a small network learns and "
        f"answers, and as a start for classifiers of one's own pictures. {answers} It looks at "
        "32x32 pixels, which one thing should fill. It is not for decisions about people, nor for "
        "anything where a mistake does harm. The licence is that of the weights; the images that "
        "they learned from have terms of their own."
    )


def _front_matter(config: dict[str, Any], metrics: dict[str, Any]) -> str:
    data = ModelCardData(
        license="apache-2.0",
        library_name="cifar-torch",
        pipeline_tag="image-classification",
        tags=[
            *(["cifar10"] if tuple(config["class_names"]) == CIFAR10_CLASSES else []),
            "image-classification",
            "pytorch_model_hub_mixin",
        ],
    )
    if "accuracy" in metrics:
        data.metrics, data.model_name = ["accuracy"], _name(config)
        data.eval_results = [
            EvalResult(
                task_type="image-classification",
                dataset_type="image-folder" if _from_folder(config, metrics) else "cifar10",
                dataset_name=_measured_on(config, metrics),
                metric_type="accuracy",
                metric_value=metrics["accuracy"],
            )
        ]
    return f"---\n{data.to_yaml()}\n---"


def _results(metrics: dict[str, Any]) -> str:
    low, high = metrics["accuracy_ci95"]
    rows = "\n".join(
        f"| {_cell(name)} | {share:.1%} | {_interval(wilson_interval(row[i], sum(row)))} |"
        for i, ((name, share), row) in enumerate(
            zip(metrics["by_class"].items(), metrics["confusion"], strict=True)
        )
    )
    one_view = (
        f" The answers for a picture and its mirror image are averaged; without that it is "
        f"{metrics['accuracy_one_view']:.2%} ({_interval(metrics['accuracy_one_view_ci95'])})."
        if "accuracy_one_view" in metrics
        else ""
    )
    before = (
        f"; before calibration {metrics['uncalibrated']['ece']:.1%}"
        if "uncalibrated" in metrics
        else ""
    )
    other = metrics.get("measured_on")
    images = f"images ({other})" if other else "test images"
    return (
        f"## Results\n\nOn {metrics['images']:,} {images}: accuracy "
        f"**{metrics['accuracy']:.2%}** (95% interval {low:.2%} to {high:.2%}), cross-entropy "
        f"{metrics['loss']:.3f}, calibration error (ECE, {BINS} bins) {metrics['ece']:.1%} "
        f"({_interval(metrics['ece_ci95'])}{before}).{one_view}\n\n"
        f"| class | accuracy | 95% interval |\n|---|---|---|\n{rows}\n\n{_confusions(metrics)}"
    )


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.1%} to {ends[1]:.1%}"


def _photos(photos: dict[str, Any]) -> str:
    rows = {
        f"{photos['known']} of things it knows: their class comes first": "accuracy",
        "their class comes first, and the answer is not «none of these»": "answered_right",
        f"{photos['none']} of things it does not know: «none of these»": "none_answered_none",
        "accepted of the same, where 95% of the test images are (FPR95)": "none_accepted_at_95",
    }
    lines = "\n".join(
        f"| {text} | {photos[key]:.1%} | {_interval(photos[f'{key}_ci95'])} |"
        for text, key in rows.items()
        if f"{key}_ci95" in photos
    )
    table = f"| ordinary photographs | share | 95% interval |\n|---|---|---|\n{lines}"
    separations = {
        "the test images": "none_auroc",
        "the photographs of things it knows": "none_auroc_photos",
    }
    told = [
        f"against {name} {photos[key]:.3f} ({low:.3f} to {high:.3f})"
        for name, key in separations.items()
        if key in photos
        for low, high in [photos[f"{key}_ci95"]]
    ]
    if not told:
        return table
    return (
        f"{table}\n\nAUROC of the unknown things {', '.join(told)}. Of a photograph the view that "
        "looks least familiar counts; a test image of 32x32 pixels has one."
    )


def _cell(name: str) -> str:
    return " ".join(name.split()).replace("|", "&#124;")  # which would end the cell of a table


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _confusions(metrics: dict[str, Any], most: int = 3) -> str:
    names, confusion = list(metrics["by_class"]), metrics["confusion"]
    rows = enumerate(confusion_shares(confusion))
    mistakes = sorted(
        ((share, a, b) for a, row in rows for b, share in enumerate(row) if a != b), reverse=True
    )
    told = [
        f"{share:.0%} of {names[a]} taken for {names[b]} "
        f"({_interval(wilson_interval(confusion[a][b], sum(confusion[a])))})"
        for share, a, b in mistakes[:most]
        if share
    ]
    return f"Most often confused: {'; '.join(told) or 'nothing'}."
