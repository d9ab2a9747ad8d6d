"""The measures against values worked out by hand or by a slow plain version."""

import math

import pytest
import torch
import torch.nn.functional as F

from cifar_torch.evaluation import (
    Views,
    acceptance_threshold,
    auroc,
    auroc_interval,
    calibration_error,
    calibration_interval,
    energy,
    fit_temperature,
    log_probabilities,
    measure,
    measure_photos,
    predict_logits,
    reliability_bins,
    wilson_interval,
)
from cifar_torch.model import CifarNet


def test_wilson_interval_of_the_textbook():
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(10, 10)[1] == 1.0


def test_calibration_error_is_the_weighted_gap():
    probabilities = torch.tensor([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 5)
    labels = torch.tensor([0] * 7 + [1] * 3 + [1] * 5)  # 70% right at 0.9, 100% right at 0.6
    error = calibration_error(reliability_bins(probabilities, labels))
    assert error == pytest.approx(10 / 15 * 0.2 + 5 / 15 * 0.4, abs=1e-6)


def test_measure_counts_by_class():
    logits = torch.tensor([[5.0, 0, 0], [0, 5, 0], [5, 0, 0], [0, 0, 5]])
    found = measure(logits[:, None], torch.tensor([0, 1, 1, 2]), ["a", "b", "c"])
    assert found["accuracy"] == 0.75
    assert found["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert found["by_class"] == {"a": 1.0, "b": 0.5, "c": 1.0}
    right, wrong = math.log(math.exp(5) + 2) - 5, math.log(math.exp(5) + 2)
    assert found["loss"] == pytest.approx((3 * right + wrong) / 4, rel=1e-6)


@pytest.mark.parametrize("mirrored", [1, 2])
def test_the_fitted_temperature_makes_confidence_honest(mirrored):
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, mirrored, 10, generator=generator) * 2
    probabilities = honest.softmax(dim=2).mean(dim=1)
    labels = torch.multinomial(probabilities, 1, generator=generator).flatten()
    for factor in (0.4, 1.0, 3.0):
        fitted = fit_temperature(honest * factor, labels)
        assert fitted == pytest.approx(factor, rel=0.03)
        losses = [
            F.nll_loss(log_probabilities(honest.double() * factor, fitted * nearby), labels)
            for nearby in (0.999, 1, 1.001)
        ]
        assert min(losses) == losses[1]
    over_confident = measure(honest * 3, labels, [str(i) for i in range(10)])
    mended = measure(honest * 3, labels, [str(i) for i in range(10)], temperature=3.0)
    assert over_confident["ece"] > 0.08 > 0.02 > mended["ece"]
    assert ("accuracy_one_view" in mended) == (mirrored == 2)


def test_an_image_and_its_mirror_image_share_their_probability():
    logits = torch.tensor([[[2.0, 0, 0], [0, 4, 0]], [[1, 1, 1], [1, 1, 1]]])
    each = (logits / 2).softmax(dim=2)
    found = log_probabilities(logits, temperature=2.0).exp()
    torch.testing.assert_close(found, (each[:, 0] + each[:, 1]) / 2)


def test_logits_are_the_same_in_batches_without_dropout_and_mirrored():
    torch.manual_seed(0)
    model = CifarNet().train()
    images = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8)
    logits = predict_logits(model, images)
    assert model.training  # as it was
    model.eval()
    torch.testing.assert_close(logits, model(images)[:, None], rtol=1e-4, atol=1e-5)
    both = torch.stack([model(images), model(images.flip(-1))], dim=1)
    torch.testing.assert_close(
        predict_logits(model, images, mirror=True), both, rtol=1e-4, atol=1e-5
    )


def test_a_process_may_have_no_image_to_validate_on():
    nothing = torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    assert predict_logits(CifarNet(), nothing, mirror=True).shape == (0, 2, 10)


def test_energy_is_the_log_of_the_summed_exponentials():
    logits = torch.tensor([[[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], [[0.0, 0.0, 0.0]] * 2])
    assert energy(logits).tolist() == pytest.approx([math.log(3 * math.exp(2)), math.log(3)])


def test_a_picture_is_as_familiar_as_its_least_familiar_view():
    views = Views(torch.tensor([[9.0, 0.0], [0.0, 0.0], [9.0, 0.0]])[:, None], [2, 1])
    assert views.familiarity().tolist() == pytest.approx([math.log(2), 9.0], abs=1e-3)


def test_threshold_accepts_the_share_asked_for():
    scores = torch.arange(1000.0)
    threshold = acceptance_threshold(scores, 0.95)
    assert (scores >= threshold).double().mean().item() == pytest.approx(0.95, abs=0.002)


def test_auroc_counts_pairs_and_halves_ties():
    assert auroc(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0])) == pytest.approx(3.5 / 4)


def test_photographs_of_things_and_of_nothing_known():
    photos = Views(torch.tensor([[[9.0, 0]], [[0, 9]], [[9, 0]], [[1, 0]], [[0, 8]]]), [1] * 5)
    labels = torch.tensor([0, 1, 1, -1, -1])  # right, right, wrong; none, none
    test_logits = torch.tensor([[9.0, 0]] * 19 + [[5.0, 0]])[:, None]
    found = measure_photos(photos, labels, test_logits, temperature=1.0, none_below=4.0)
    assert (found["known"], found["none"]) == (3, 2)
    assert found["accuracy"] == found["answered_right"] == pytest.approx(2 / 3)
    assert found["none_answered_none"] == 0.5
    assert found["none_accepted_at_95"] == 0.0  # both score below nineteen in twenty
    assert found["none_auroc"] == pytest.approx((19 * 2 + 1) / 40)
    assert found["none_auroc_photos"] == 1.0  # the known ones all score above
    strict = measure_photos(photos, labels, test_logits, 1.0, none_below=10.0)
    assert strict["answered_right"] == 0 and strict["none_answered_none"] == 1
    never = measure_photos(photos, labels, test_logits, 1.0, none_below=None)
    assert never["none_answered_none"] == 0


def test_the_interval_of_the_calibration_error():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(4000, generator=generator) / 2 + 0.5
    honest = torch.stack([confidence, 1 - confidence], dim=1)
    labels = (torch.rand(4000, generator=generator) > confidence).long()
    low, high = calibration_interval(honest, labels)
    assert 0 <= low < high < 0.025
    low, high = calibration_interval(honest, torch.zeros(4000, dtype=torch.long))  # all right
    assert low < 0.25 < high and high - low < 0.02
    few, labels = honest[:100], labels[:100]
    low, high = calibration_interval(few, labels)
    assert low <= calibration_error(reliability_bins(few, labels)) <= high


def test_the_interval_of_an_auroc_grows_as_there_are_fewer_pictures():
    assert auroc_interval(0.5, 1000, 1000) == pytest.approx((0.4747, 0.5253), abs=0.001)
    low, high = auroc_interval(0.9, 10_000, 186)
    fewer = auroc_interval(0.9, 10_000, 20)
    assert fewer[0] < low < 0.9 < high < fewer[1] <= 1
