"""Named training recipes: every knob of a training run, each with what it is for."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin

from cifar_torch.errors import UserError

MOST = 1e38  # of rates and limits: float32 has to hold what becomes of them
Schedule = Literal["none", "inverse-time", "one-cycle"]


def _knob(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Recipe:
    """What to train with. The defaults are the report's own."""

    name: str = _knob("report", "name of the recipe")
    epochs: int = _knob(25, "passes over the training images")
    batch_size: int = _knob(32, "images per optimizer step, over all processes")
    lr: float = _knob(0.01, "learning rate; with one-cycle its peak")
    momentum: float = _knob(0.9, "momentum of SGD")
    nesterov: bool = _knob(False, "Nesterov's form of momentum")
    weight_decay: float = _knob(0.0, "L2 penalty on the kernels (biases are free)")
    decay: Schedule = _knob(
        "inverse-time",
        "how the rate falls: inverse-time, lr / (1 + lr / epochs * step), is what the report's "
        "code asks for; none is what its log shows (Keras 3 ignores the argument); one-cycle "
        "rises and falls to 0 once",
    )
    warmup: float = _knob(0.2, "one-cycle: part of the run in which the rate rises")
    dropout: float = _knob(0.2, "share of the activations dropped, in all six dropout layers")
    max_norm: float = _knob(
        3.0, "limit on the L2 norm of each hidden dense unit's weights; 0: none"
    )
    init: Literal["glorot", "he"] = _knob(
        "glorot", "initial kernels: glorot (uniform, as Keras's) or he (normal)"
    )
    label_smoothing: float = _knob(0.0, "share of the target given to all classes alike")
    crop_padding: int = _knob(0, "random crop: pixels of reflected padding on each side; 0: none")
    flip: bool = _knob(False, "random mirror images")
    zoom: float = _knob(
        0.0,
        "random zoom: 1 - X to 1 + X of the picture's side are shown; 0: none",
    )
    colour: float = _knob(
        0.0, "most by which brightness, contrast and saturation are changed at random; 0: none"
    )
    mixup: float = _knob(
        0.0, "share of the images that are blended with another one, their targets too; 0: none"
    )
    cutout: int = _knob(0, "side in pixels of the random square blanked in each image; 0: none")
    averaging: float = _knob(
        0.0,
        "decay per step of the moving average (EMA) of the weights, which is what is kept; 0: none",
    )
    standardise: bool = _knob(
        False,
        "subtract the training images' mean and divide by their standard deviation, by channel",
    )
    mirror: bool = _knob(False, "average the answers for a picture and its mirror image")
    teacher: int = _knob(
        0,
        "epochs of each of two stronger networks that are trained first and whose answers are "
        "learned (knowledge distillation); 0: none",
    )
    outliers: float = _knob(
        0.0,
        "made-up pictures of none of the classes to train with, as a share of the training images; "
        "0: none",
    )
    hold_out: float = _knob(
        0.0,
        "share of the training images kept out of training, for validation; 100 images or more "
        "also set the temperature and the threshold of «none of these»",
    )

    def __post_init__(self) -> None:
        for ok, what in (
            (1 <= self.epochs <= 2**31, "epochs must be at least 1, at most 2^31"),
            (1 <= self.batch_size <= 2**31, "batch_size must be at least 1, at most 2^31"),
            (0 < self.lr <= MOST, f"lr must be above 0, at most {MOST:g}"),
            (self.momentum > 0 or not self.nesterov, "nesterov needs a momentum above 0"),
            (0 <= self.momentum < 1, "momentum must be in [0, 1)"),
            (0 <= self.dropout < 1, "dropout must be in [0, 1)"),
            (0 <= self.warmup < 1, "warmup must be in [0, 1)"),
            (0 <= self.label_smoothing < 1, "label_smoothing must be in [0, 1)"),
            (0 <= self.averaging < 1, "averaging must be in [0, 1)"),
            (0 <= self.hold_out < 1, "hold_out must be in [0, 1)"),
            (0 <= self.crop_padding < 32, "crop_padding must be in [0, 31]"),
            (0 <= self.zoom < 1, "zoom must be in [0, 1)"),
            (0 <= self.colour <= 1, "colour must be in [0, 1]"),
            (0 <= self.mixup <= 1, "mixup must be in [0, 1]"),
            (0 <= self.cutout <= 32, "cutout must be in [0, 32]"),
            (0 <= self.weight_decay <= MOST, f"weight_decay must be in [0, {MOST:g}]"),
            (0 <= self.max_norm <= MOST, f"max_norm must be in [0, {MOST:g}]"),
            (0 <= self.teacher <= 2**31, "teacher must be at least 0, at most 2^31"),
            (0 <= self.outliers <= 1, "outliers must be in [0, 1]"),
        ):
            if not ok:
                raise UserError(f"recipe {self.name}: {what}")

    def learning_rate(self, step: int, steps: int) -> float:
        """The rate of 0-based `step` out of `steps`."""
        if self.decay == "inverse-time":  # Keras 1 and 2: counted in steps, not epochs
            return self.lr / (1 + self.lr / self.epochs * step)
        if self.decay == "one-cycle":
            rise = self.warmup * steps
            if step < rise:
                return self.lr * (step + 1) / (rise + 1)
            return self.lr * (steps - step) / (steps - rise)
        return self.lr


KNOBS = tuple(field for field in fields(Recipe) if field.name != "name")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        Recipe(
            name="fast",
            epochs=3,
            batch_size=96,
            lr=0.04,
            nesterov=True,
            weight_decay=5e-4,
            decay="one-cycle",
            dropout=0.0,
            init="he",
            flip=True,
            averaging=0.99,
            standardise=True,
            mirror=True,
        ),
        Recipe(
            name="best",
            epochs=120,
            batch_size=128,
            lr=0.06,
            nesterov=True,
            weight_decay=5e-4,
            decay="one-cycle",
            dropout=0.1,
            init="he",
            crop_padding=4,
            flip=True,
            cutout=6,
            averaging=0.9985,
            standardise=True,
            mirror=True,
            teacher=10,
            outliers=0.1,
            hold_out=0.05,
        ),
    )
}
DEFAULT_RECIPE = RECIPES["report"]


def get_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of that name with some fields changed; None means unchanged. Raises UserError."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}; there are: {', '.join(RECIPES)}")
    return changed(RECIPES[name], **changes)


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with some fields changed; None means unchanged. Raises UserError."""
    return replace(recipe, **{k: v for k, v in changes.items() if v is not None})


def choices(kind: Any) -> tuple[str, ...] | None:
    """The values that a field of this type allows, or None where any will do."""
    return get_args(kind) if get_origin(kind) is Literal else None
