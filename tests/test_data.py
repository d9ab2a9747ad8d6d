"""Loading: CIFAR-10 through torchvision's own downloader, folders of images, and their splits."""

import functools
import http.server
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from cifar_torch import data
from cifar_torch.data import load_cifar10, load_image_folder, load_test_images
from cifar_torch.errors import UserError
from cifar_torch.webui import datasets
from tests.pictures import KINDS, write_cifar10_archive, write_image_folder

# ------------------------------------------------------------------------------------ CIFAR-10


@pytest.fixture
def cifar10_server(tmp_path, monkeypatch):
    """A small archive on a local HTTP server, known to torchvision as the real one."""
    served = tmp_path / "served"
    sums = write_cifar10_archive(served)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    handler.func.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz"
    monkeypatch.setattr(CIFAR10, "url", url)
    monkeypatch.setattr(CIFAR10, "tgz_md5", sums[""])
    monkeypatch.setattr(
        CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    yield server
    server.shutdown()
    server.server_close()


def test_cifar10_is_downloaded_once_and_read(cifar10_server, tmp_path):
    loaded = load_cifar10(tmp_path / "data")
    assert loaded.train.images.shape == (100, 3, 32, 32)
    assert loaded.train.images.dtype == torch.uint8
    assert loaded.test.labels.tolist() == [i % 10 for i in range(20)]
    assert loaded.class_names == data.CIFAR10_CLASSES
    cifar10_server.shutdown()  # the second time needs no network
    assert torch.equal(load_cifar10(tmp_path / "data").test.images, loaded.test.images)


def test_no_network_says_what_to_download_and_where_to_put_it(
    cifar10_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(UserError) as caught:
        load_cifar10(tmp_path / "data")
    for part in ("cannot download", CIFAR10.url, str(tmp_path / "data" / CIFAR10.filename)):
        assert part in str(caught.value)


def test_wrong_checksum_names_the_file(cifar10_server, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz.*checksum"):
        load_cifar10(tmp_path / "data")


# ------------------------------------------------------------------------------ image folders


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def test_folder_with_train_and_test(folder):
    write_image_folder(folder / "train", 6, size=48)
    write_image_folder(folder / "test", 3, first=6)
    loaded = load_image_folder(folder)
    assert loaded.class_names == KINDS
    assert loaded.train.images.shape == (24, 3, 32, 32)
    assert loaded.test.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    first = np.asarray(Image.open(folder / "test" / KINDS[0] / "006.png"))
    assert np.array_equal(loaded.test.images[0].permute(1, 2, 0).numpy(), first)  # untouched


def test_one_folder_holds_a_fixed_tenth_of_each_class_out(folder):
    write_image_folder(folder, 20)
    loaded, again = load_image_folder(folder), load_image_folder(folder)
    assert loaded.test.labels.bincount().tolist() == [2, 2, 2, 2]
    assert len(loaded.train) == 72
    assert torch.equal(loaded.test.images, again.test.images)
    seen = {image.numpy().tobytes() for image in loaded.train.images}
    assert not any(image.numpy().tobytes() in seen for image in loaded.test.images)


def test_splits_of_other_names_are_not_taken_for_classes(folder):
    for split in ("Train", "Test"):
        write_image_folder(folder / split, 3)
    with pytest.raises(UserError, match="call them train and test"):
        load_image_folder(folder)


def test_the_normalisation_is_the_mean_and_deviation_of_the_pixels(folder):
    loaded = load_image_folder(write_image_folder(folder, 10))
    pixels = loaded.train.images.double() / 255
    mean, std = loaded.normalisation()
    assert mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-4)
    assert std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "there is no folder"),
        (lambda f: f.mkdir(), "has no subfolders"),
        (lambda f: (f / "only").mkdir(parents=True), "one class only"),
        (lambda f: (f / "all" / "cat").mkdir(parents=True), "one level down, in .*all"),
        (
            lambda f: [(f / name / "cat").mkdir(parents=True) for name in ("train", "val")],
            "has no test/",
        ),
    ],
)
def test_folder_that_is_no_data_set(folder, make, message):
    make(folder)
    with pytest.raises(UserError, match=message):
        load_image_folder(folder)


def test_test_images_alone(folder):
    write_image_folder(folder / "test", 3)
    assert len(load_test_images(folder, KINDS)) == 12
    with pytest.raises(UserError, match="needs a folder for each of the classes"):
        load_test_images(folder, ("cat", "dog"))


def test_with_one_image_a_class_there_is_none_to_test_on(tmp_path):
    with pytest.raises(UserError, match="one image of each class"):
        load_image_folder(write_image_folder(tmp_path / "few", 1))


def test_the_pages_test_images_are_those_that_training_held_out(tmp_path, monkeypatch):
    folder = write_image_folder(tmp_path / "things", 20)
    monkeypatch.setenv("CIFAR_TORCH_IMAGE_FOLDER", str(folder))
    held_out = load_image_folder(folder).test

    def images_of(class_names):
        return datasets.images_for(SimpleNamespace(class_names=class_names))

    assert torch.equal(images_of(KINDS).images, held_out.images)
    swapped = images_of(KINDS[::-1])
    assert sorted(swapped.labels.tolist()) == sorted((3 - held_out.labels).tolist())
    with pytest.raises(UserError, match="needs a folder for each of the classes"):
        images_of(("cat", "dog"))
    for image in list((folder / KINDS[0]).iterdir())[5:]:
        image.unlink()  # a changed folder is noticed
    assert len(images_of(KINDS)) < len(held_out)


def test_added_pictures_bring_few_others_from_training_into_the_test(folder):
    write_image_folder(folder, 40)
    before = load_image_folder(folder)
    known = {image.numpy().tobytes() for image in before.train.images}
    more = write_image_folder(folder.with_name("more"), 50)  # the same 40 and ten others
    for path in more.rglob("*.png"):
        (folder / path.relative_to(more)).write_bytes(path.read_bytes())
    after = load_image_folder(folder)
    assert len(after.test) == len(before.test) + len(KINDS)
    moved = [image for image in after.test.images if image.numpy().tobytes() in known]
    assert len(moved) <= len(KINDS)


def test_folders_beside_train_and_test_are_told(folder, capsys):
    for name in ("train", "test", "val"):
        write_image_folder(folder / name, 2)
    load_image_folder(folder)
    assert f"Passed over in {folder}: val; train and test are read." in capsys.readouterr().err


def test_a_class_may_be_called_train(folder):
    write_image_folder(folder, 3)
    (folder / KINDS[0]).rename(folder / "train")
    assert load_image_folder(folder).class_names == tuple(sorted({"train", *KINDS[1:]}))
