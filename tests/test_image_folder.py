"""Pictures in folders named after their classes: names, what cannot be read, the cache."""

import os
import time
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifar_torch import image_folder
from cifar_torch.checkpoint import check_destination
from cifar_torch.data import load_image_folder, load_test_images
from cifar_torch.errors import UserError
from cifar_torch.image_folder import load_photos
from tests.pictures import KINDS, write_image_folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def test_second_start_reads_the_cache_and_a_changed_folder_is_noticed(folder, monkeypatch):
    write_image_folder(folder, 10)
    before = load_image_folder(folder)
    monkeypatch.setattr(image_folder, "open_image", lambda *a, **k: pytest.fail("decoded again"))
    assert torch.equal(load_image_folder(folder).train.images, before.train.images)
    monkeypatch.undo()
    path = folder / "disc" / "003.bmp"
    for colour in ("red", "blue"):  # of one size, so that only the time differs
        before = load_image_folder(folder)
        Image.new("RGB", (32, 32), colour).save(path)
        os.utime(path, ns=(time.time_ns(), time.time_ns() + 1))
        after = load_image_folder(folder)
        images = [torch.cat([d.train.images, d.test.images]) for d in (before, after)]
        assert images[0].shape != images[1].shape or not torch.equal(*images)
    path.unlink()
    changed = load_image_folder(folder)
    assert len(changed.train) + len(changed.test) == 40


def test_a_damaged_cache_is_decoded_again(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_image_folder(folder, 5)
    before = load_image_folder(folder)
    (cached,) = (tmp_path / "cache").rglob("*.safetensors")
    cached.write_bytes(b"not a cache")
    assert torch.equal(load_image_folder(folder).train.images, before.train.images)


def test_files_of_other_kinds_are_told_once_for_all_classes(folder, capsys):
    write_image_folder(folder, 3)
    for kind, name in zip(KINDS, ("1.heic", "2.HEIC", "notes", ".hidden.heic"), strict=True):
        (folder / kind / name).touch()
    assert len(load_image_folder(folder).train) == 8
    said = capsys.readouterr().err
    assert f"Passed over in {folder}: 3 files of other kinds (.heic, without extension)" in said
    assert said.count("Passed over") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_among_the_images_is_passed_over(folder, capsys):
    write_image_folder(folder, 2)
    os.mkfifo(folder / KINDS[0] / "pipe.png")
    assert len(load_image_folder(folder).train) == 4
    assert "1 file of other kinds (not a file)" in capsys.readouterr().err


def test_unreadable_images_are_skipped_with_a_count_or_named(folder, capsys):
    write_image_folder(folder, 10)
    (folder / "ring" / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    loaded = load_image_folder(folder)
    assert len(loaded.train) + len(loaded.test) == 40
    said = capsys.readouterr().err
    assert "Skipped 1 unreadable" in said and "broken.jpg" in said
    for _ in ("decoding", "from the cache"):
        with pytest.raises(UserError, match=r"broken\.jpg"):
            load_image_folder(folder, strict=True)


def test_photographs_of_a_class_called_none_are_refused(folder):
    write_image_folder(folder, 1)
    (folder / KINDS[0]).rename(folder / "none")
    with pytest.raises(UserError, match="one of the classes is called none"):
        load_photos(folder, ("none", *KINDS[1:]))


def test_hidden_files_are_left_out(folder):
    write_image_folder(folder, 10)
    picture = next(folder.rglob("*.png"))
    (picture.parent / ".thumbnails").mkdir()
    for copy in (picture.parent / ".thumbnails" / "1.png", picture.parent / "._1.png"):
        copy.write_bytes(picture.read_bytes())
    loaded = load_image_folder(folder)
    assert len(loaded.train) + len(loaded.test) == 40


def test_names_written_by_a_mac_are_the_same_names(folder):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        write_image_folder(folder / split, 3)
        (folder / split / KINDS[0]).rename(folder / split / unicodedata.normalize(form, "mèo"))
    loaded = load_image_folder(folder)
    assert "mèo" in loaded.class_names
    assert len(load_test_images(folder, loaded.class_names)) == 12
    (folder / "test" / "mèo").mkdir()
    with pytest.raises(UserError, match="two folders whose names look alike: mèo"):
        load_image_folder(folder)


def test_a_picture_may_have_a_name_that_is_not_utf8_but_a_class_may_not(folder):
    write_image_folder(folder, 10)
    odd = os.fsencode(folder / "disc" / "003.png").replace(b"003", b"caf\xe9")
    os.rename(folder / "disc" / "003.png", odd)
    assert len(load_image_folder(folder).train) == 36
    os.rename(folder / "disc", os.fsencode(folder / "caf") + b"\xe9")
    with pytest.raises(UserError, match="is not UTF-8; rename it"):
        load_image_folder(folder)


def test_a_path_that_is_not_utf8_is_refused(folder, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_image_folder(odd / "pictures", 3)
    with pytest.raises(UserError, match=r"'.*caf\\udce9/pictures' is not UTF-8; rename it"):
        load_image_folder(odd / "pictures")
    with pytest.raises(UserError, match="is not UTF-8"):
        check_destination(odd / "out")


def test_empty_class(folder):
    write_image_folder(folder, 3)
    (folder / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing has no images"):
        load_image_folder(folder)


def test_changed_pictures_are_noticed_behind_links(tmp_path):
    folder = write_image_folder(tmp_path / "things", 3)
    links = tmp_path / "links"
    for image in folder.rglob("*.png"):
        link = links / image.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image)
    before = load_image_folder(links).train.images
    for image in folder.rglob("*.png"):
        Image.new("RGB", (32, 32), "red").save(image)
    assert not torch.equal(load_image_folder(links).train.images, before)
