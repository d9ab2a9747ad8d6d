"""Keras model files of the report's network, and of others."""

import os
import sys

import numpy as np
import pytest
import torch

from cifar_torch.checkpoint import load_checkpoint
from cifar_torch.classifier import Classifier
from cifar_torch.data import CIFAR10_CLASSES
from cifar_torch.errors import UserError
from cifar_torch.keras_import import import_keras
from tests.commands import call_cifar_torch, run_cifar_torch
from tests.conftest import EXAMPLES

os.environ["KERAS_BACKEND"] = "torch"  # before the import
import keras
from keras import layers


def network(
    classes=10,
    activation="relu",
    pooling=layers.MaxPooling2D,
    rescaling=False,
    softmax=True,
    policy="float32",
    scale=1.5,
    rate=0.2,
):
    """The report's network as its script writes it, with weights that tell pictures apart."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    limit = keras.constraints.MaxNorm(3)
    stack = [layers.Input((32, 32, 3))] + [layers.Rescaling(1 / 255)] * rescaling
    for channels in (32, 64, 128):
        for after in (layers.Dropout(rate), pooling(2)):
            stack += [layers.Conv2D(channels, 3, padding="same", activation=activation), after]
    stack.append(layers.Flatten())
    for units in (1024, 512):
        dense = layers.Dense(units, activation=activation, kernel_constraint=limit)
        stack += [layers.Dropout(rate), dense]
    stack += [
        layers.Dropout(rate),
        layers.Dense(classes, activation="softmax" if softmax else None),
    ]
    model = keras.Sequential(stack)
    model.compile(loss="categorical_crossentropy", optimizer="sgd")
    for layer in model.layers:
        weights = layer.get_weights()
        if weights:  # biases begin at zero, which would hide a wrong order
            bias = np.random.default_rng(0).normal(0, 0.1, weights[1].shape)
            layer.set_weights([weights[0] * scale, bias])
    return model


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_checkpoint_answers_as_the_keras_model_does(tmp_path, suffix):
    model, path = network(), tmp_path / f"model.{suffix}"
    model.save(path)
    done = run_cifar_torch("import-keras", path, "--out", tmp_path / "mine")
    assert done.returncode == 0, done.stderr
    classifier = Classifier.load(tmp_path / "mine", precision="fp32")
    assert classifier.class_names == CIFAR10_CLASSES
    pixels = np.stack([classifier.classify(path).pixels for path in EXAMPLES.glob("*.png")])
    expected = model.predict(pixels / 255, verbose=0)
    assert np.ptp(expected) > 0.3  # the answers are not all alike
    answers = [classifier.classify_views([picture[None]])[0].confidences for picture in pixels]
    found = [[answer[name] for name in CIFAR10_CLASSES] for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    card = (tmp_path / "mine" / "README.md").read_text("utf-8")
    assert f"trained with Keras: its weights come from `model.{suffix}`" in card


@pytest.mark.parametrize(
    "variant",
    [{"rescaling": True}, {"softmax": False}, {"policy": "mixed_bfloat16"}],
)
def test_other_ways_to_write_the_same_network(tmp_path, variant):
    network(**variant).save(tmp_path / "m.keras")
    assert import_keras(tmp_path / "m.keras").class_names == CIFAR10_CLASSES


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_share_that_dropout_drops_is_kept(tmp_path, rate):
    network(rate=rate).save(tmp_path / "m.keras")
    assert import_keras(tmp_path / "m.keras").model.dropout == rate


@pytest.mark.parametrize(("pixels", "low", "high"), [("signed", -1, 1), ("bytes", 0, 255)])
def test_pixels_on_another_scale(tmp_path, pixels, low, high):
    model = network()
    model.save(tmp_path / "m.keras")
    checkpoint = import_keras(tmp_path / "m.keras", pixels=pixels)
    images = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    inputs = low + (high - low) * images.permute(0, 2, 3, 1).numpy() / 255
    with torch.no_grad():
        found = checkpoint.model(images).softmax(dim=1)
    np.testing.assert_allclose(found, model.predict(inputs, verbose=0), atol=1e-4)


def test_weights_in_bfloat16_are_refused(tmp_path):
    network(policy="bfloat16").save(tmp_path / "m.keras")
    with pytest.raises(UserError, match="weights in bfloat16; they must be float32"):
        import_keras(tmp_path / "m.keras")


def test_one_output_is_no_class(tmp_path):
    network(classes=1).save(tmp_path / "m.keras")
    with pytest.raises(UserError, match="2 classes or more"):
        import_keras(tmp_path / "m.keras", ["thing"])


def test_classes_of_ones_own_have_names(tmp_path):
    network(classes=3).save(tmp_path / "m.keras")
    names = ["mèo", "chó", "cá"]
    done = call_cifar_torch(
        "import-keras", tmp_path / "m.keras", "--out", tmp_path / "m", "--class-names", *names
    )
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "m").class_names == tuple(names)
    with pytest.raises(UserError, match=r"has 3 classes; name them .* --class-names"):
        import_keras(tmp_path / "m.keras")
    with pytest.raises(UserError, match="has 3 classes, and the names are 2: a, b"):
        import_keras(tmp_path / "m.keras", ["a", "b"])
    for names in (["a", "a", "b"], ["a", "", "b"], ["a", "b\n", "c"], ["a", "b", "\udcff"]):
        with pytest.raises(UserError, match="must differ and be plain text"):
            import_keras(tmp_path / "m.keras", names)


@pytest.mark.parametrize(
    "variant",
    [
        {"activation": "elu"},
        {"pooling": layers.AveragePooling2D},
        {"activation": "elu", "scale": 3},  # so sure of its answers that they are all 0 or 1
    ],
)
def test_the_same_weights_in_another_network_are_refused(tmp_path, variant):
    network(**variant).save(tmp_path / "m.keras")
    with pytest.raises(UserError, match="its answers differ"):
        import_keras(tmp_path / "m.keras")


def test_other_outputs_are_refused(tmp_path):
    model = network()
    two = keras.Model(model.inputs, [model.outputs[0], model.layers[-3].output])
    two.save(tmp_path / "m.keras")
    with pytest.raises(UserError, match="give one answer for each"):
        import_keras(tmp_path / "m.keras")


def test_code_in_the_file_is_not_run(tmp_path):
    stack = [layers.Input((32, 32, 3)), layers.Lambda(lambda x: x), layers.Flatten()]
    keras.Sequential([*stack, layers.Dense(10)]).save(tmp_path / "m.keras")
    with pytest.raises(UserError, match="holds code of its own"):
        import_keras(tmp_path / "m.keras")


def test_another_network_is_refused(tmp_path):
    small = keras.Sequential([layers.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10)])
    small.save(tmp_path / "m.keras")
    with pytest.raises(UserError, match=r"another network.*\(3072, 10\), \(10,\)"):
        import_keras(tmp_path / "m.keras")


def test_mistakes_end_with_a_sentence(tmp_path, monkeypatch):
    for name in ("text.h5", "text.keras", "text.txt"):
        (tmp_path / name).write_text("no model")
    for name, message in (
        ("nowhere.h5", "there is no file"),
        ("text.h5", "Keras cannot read"),
        ("text.keras", "is cut off, or no .keras file"),
        ("text.txt", "is neither a .keras nor a .h5 file"),
    ):
        done = call_cifar_torch("import-keras", tmp_path / name, "--out", tmp_path / "out")
        assert done.returncode == 2 and message in done.stderr
        assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(UserError, match="pip install keras"):
        import_keras(tmp_path / "text.h5")


def test_a_checkpoint_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "m.h5").write_text("")
    done = call_cifar_torch("import-keras", tmp_path / "m.h5", "--out", tmp_path / "mine")
    assert done.returncode == 2 and "choose a new folder" in done.stderr
