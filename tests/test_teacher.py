"""Learning from teachers and from outliers."""

import numpy as np
import pytest
import torch

from cifar_torch import teacher
from cifar_torch.augmentation import MIRRORED, OTHER, Augmentation
from cifar_torch.batches import Batches
from cifar_torch.data import load_image_folder
from cifar_torch.errors import UserError
from cifar_torch.outliers import close_ups, make_outliers, shuffled_tiles
from cifar_torch.progress import Stopped
from cifar_torch.recipes import get_recipe
from cifar_torch.teacher import TeacherNet, Teachers, draw_view
from cifar_torch.training import train
from tests.pictures import write_image_folder

IMAGES = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("things"), 20)


@pytest.fixture
def data(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(teacher, "VIEWS", 3)
    return load_image_folder(folder)


def teachers(data, epochs=4, **changes) -> Teachers:
    def normalise(images):
        return images.float() / 128 - 1

    arguments = {"augmentation": Augmentation(2, True), "dtype": torch.float32} | changes
    return Teachers(data.train, data.train.fingerprint(), 4, normalise, epochs, **arguments)


def test_the_teachers_learn_and_answer_for_each_view(data, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "TEACHERS", 1)
    data = load_image_folder(write_image_folder(tmp_path / "more", 60))
    answers = teachers(data).answers()
    assert answers.shape == (teacher.VIEWS, len(data.train), 4)
    assert torch.allclose(answers.float().sum(dim=2), torch.ones(answers.shape[:2]), atol=0.01)
    assert (answers.argmax(dim=2) == data.train.labels).float().mean() > 0.7  # chance: 0.25


def test_the_teachers_do_not_see_cut_outs(data, tmp_path, monkeypatch):
    answers = teachers(data, 1).answers()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))  # or they would be found there
    with_cutout = teachers(data, 1, augmentation=Augmentation(2, True, cutout=6))
    assert torch.equal(with_cutout.answers(), answers)


def test_a_teacher_sees_each_image_mirrored_in_every_other_epoch(data, monkeypatch):
    monkeypatch.setattr(teacher, "TEACHERS", 1)
    seen, change = [], Augmentation.__call__

    def note(augmentation, images, draws, chosen):
        seen.append(draws[:, MIRRORED])
        return change(augmentation, images, draws, chosen)

    monkeypatch.setattr(Augmentation, "__call__", note)
    teachers(data, epochs=2)._train(0)
    first, last = seen[0], seen[-1]
    assert 0 < first.sum() < len(first)
    assert torch.equal(last, 1 - first)


def test_every_five_steps_the_weights_go_back_to_their_average():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimizer = teacher._Optimizer(network, batch=1, steps=20)
    for done in range(10):
        optimizer.step(network(torch.ones(1, 3)).sum(), done)
        pairs = zip(optimizer.values, optimizer.average, strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == (done % 5 == 4)


def test_a_cache_that_cannot_be_written_costs_nothing_but_a_warning(data, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert teachers(data, epochs=1).answers().isfinite().all()
    assert "could not be kept" in capsys.readouterr().err


def test_a_damaged_cache_is_made_anew(data, tmp_path):
    answers = teachers(data, epochs=1).answers()
    for file in (tmp_path / "cache").rglob("teacher-*"):
        file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(teachers(data, epochs=1).answers(), answers)


def test_answers_that_are_no_numbers_are_refused_and_not_kept(data, tmp_path, monkeypatch):
    broken = TeacherNet(4)
    broken.layers[-1].weight.data[:] = torch.nan
    monkeypatch.setattr(Teachers, "_train", lambda *a: broken)
    with pytest.raises(UserError, match="cannot learn these images"):
        teachers(data).answers()
    assert not list((tmp_path / "cache").rglob("teacher-*"))


def test_their_answers_are_kept_and_those_of_other_images_are_not_taken(data, monkeypatch):
    before = teachers(data, epochs=1).answers()
    trained = []
    monkeypatch.setattr(Teachers, "_train", lambda *a: trained.append(a) or TeacherNet(4))
    assert torch.equal(teachers(data, epochs=1).answers(), before)
    assert not trained
    data.train.images[0, 0, 0, 0] += 1
    teachers(data, epochs=1).answers()
    assert len(trained) == teacher.TEACHERS


def test_a_stopped_teacher_goes_on_and_ends_as_if_it_had_not_been_stopped(data, tmp_path):
    whole = teachers(data, epochs=3).answers()
    for file in (tmp_path / "cache").rglob("teacher-*"):
        file.unlink()

    calls = []

    def stop_in_the_third_epoch(epoch: int) -> None:
        calls.append(epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teachers(data, epochs=3, before_step=stop_in_the_third_epoch).answers()
    calls.clear()
    assert torch.equal(teachers(data, epochs=3, before_step=calls.append).answers(), whole)
    assert calls[0] == 2


def test_whitening_makes_the_patches_uncorrelated():
    net = TeacherNet(10)
    smooth = torch.nn.functional.avg_pool2d(IMAGES.float(), 3, 1, 1) / 255
    net.whiten(smooth - smooth.mean(), epsilon=0)
    out = torch.nn.functional.conv2d(smooth - smooth.mean(), net.whitening.weight[:12])
    flat = out.permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(flat @ flat.T / flat.shape[1], torch.eye(12), atol=1e-3)


def test_a_run_learns_from_teachers_and_outliers_and_sees_what_the_teachers_saw(
    data, tmp_path, monkeypatch
):
    recipe = get_recipe(
        "report", epochs=2, batch_size=50, teacher=1, outliers=0.2, crop_padding=2, flip=True,
        zoom=0.2, colour=0.3, mixup=0.6,
    )  # fmt: skip
    seen, answers, drawn, change = {}, [], [], Augmentation.__call__
    monkeypatch.setattr(Augmentation, "__call__", lambda *a: drawn.append(a[2]) or change(*a))
    of_epoch, answer = Batches.epoch, Teachers.answers
    monkeypatch.setattr(Teachers, "answers", lambda t: answers.append(answer(t)) or answers[0])

    def note(batches, epoch, first):
        for images, targets, labels in of_epoch(batches, epoch, first):
            seen.setdefault(epoch, []).append((images, targets, labels))
            yield images, targets, labels

    monkeypatch.setattr(Batches, "epoch", note)
    checkpoint = train(data, recipe, tmp_path / "out", device="cpu")
    assert checkpoint.config["data"]["train_images"] == len(data.train)
    assert 0 <= checkpoint.history[-1]["accuracy"] <= 1
    count = len(data.train)
    assert (drawn[-1][count:, OTHER] >= count).all()  # outliers are blended with outliers alone
    for epoch, parts in seen.items():
        images, targets, labels = (torch.cat(t) for t in zip(*parts, strict=True))
        assert (labels == -1).sum() == round(0.2 * len(data.train))
        assert (targets[labels == -1] == 0.25).all()
        taught = Augmentation(2, True, zoom=0.2, colour=0.3, mixup=0.6)
        views = taught(data.train.images, draw_view(epoch, count, taught), torch.arange(count))
        wanted = dict(zip((v.numpy().tobytes() for v in views), answers[0][epoch], strict=True))
        for image, target in zip(images[labels >= 0], targets[labels >= 0], strict=True):
            assert torch.equal(target, wanted[image.numpy().tobytes()].float())


def test_a_run_that_is_stopped_while_its_teachers_learn_can_go_on(data, tmp_path):
    recipe = get_recipe("report", epochs=1, batch_size=50, teacher=2)
    told = []
    with pytest.raises(Stopped, match="of the teachers"):
        train(data, recipe, tmp_path / "out", device="cpu", on_progress=lambda p: told.append(p))
    assert told[0].teaching
    assert train(data, recipe, tmp_path / "out", device="cpu", resume=True).history


def test_outliers_are_pictures_and_the_same_for_the_same_seed():
    made = make_outliers(53, IMAGES, seed=3)
    assert made.shape == (53, 3, 32, 32) and made.dtype == torch.uint8
    assert torch.equal(made, make_outliers(53, IMAGES, seed=3))
    assert not torch.equal(made, make_outliers(53, IMAGES, seed=4))
    assert len({picture.numpy().tobytes() for picture in made}) == 53


@pytest.mark.parametrize("count", range(1, 8))
def test_a_few_outliers_can_be_made_of_a_few_images(count):
    for seed in range(5):
        assert make_outliers(count, IMAGES[:2], seed).shape == (count, 3, 32, 32)


def test_shuffled_tiles_keep_every_tile():
    shuffled = shuffled_tiles(IMAGES, np.random.default_rng(0), size=8)

    def tiles(image):
        return sorted(
            image[:, y : y + 8, x : x + 8].numpy().tobytes()
            for y in range(0, 32, 8)
            for x in range(0, 32, 8)
        )

    assert [tiles(i) for i in shuffled] == [tiles(i) for i in IMAGES]
    assert not torch.equal(shuffled, IMAGES)


def test_a_close_up_is_a_corner_enlarged():
    flat = torch.arange(4).repeat_interleave(3 * 32 * 32).view(4, 3, 32, 32).byte() * 50
    large = close_ups(flat, np.random.default_rng(0))
    assert (large.int() - flat.int()).abs().max() <= 1  # the weights of a filter round
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[:, :, 9:23, 9:23] = 255  # of which no corner has a part
    assert not close_ups(image, np.random.default_rng(0)).any()
