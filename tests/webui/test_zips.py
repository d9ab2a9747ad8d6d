"""The zips that come with a run: what is taken out of them, and what is refused."""

import stat
import zipfile

import pytest

from cifar_torch.errors import ReasonedError, UserError
from cifar_torch.progress import Stopped
from cifar_torch.webui.page import explained
from cifar_torch.webui.words import Words
from cifar_torch.webui.zips import MAX_BYTES, load_zip, unpack_images
from tests.pictures import write_zip, zipped_things


def test_unpacking_ends_when_it_is_asked_to(tmp_path):
    archive = write_zip(tmp_path / "my.zip", {f"{c}/{i}.png": b"1" for c in "ab" for i in range(9)})
    answers = iter([False, False, True])
    with pytest.raises(Stopped):
        unpack_images(archive, tmp_path / "out", lambda: next(answers))
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_an_upload_that_is_gone_is_asked_for_again(tmp_path):
    with pytest.raises(ReasonedError) as found:
        load_zip(tmp_path / "deleted.zip")
    assert explained(found.value, Words("en")) == Words("en")("error.zip_gone")


def test_a_zip_is_called_by_its_name_and_its_errors_say_nothing_of_this_machine(tmp_path):
    entries = zipped_things(tmp_path, per_class=3)
    assert load_zip(write_zip(tmp_path / "my.zip", entries)).origin == "images of my.zip"
    one_each = {name: content for name, content in entries.items() if name.endswith("/000.png")}
    with pytest.raises(UserError, match=r"^my.zip has one image of each class"):
        load_zip(write_zip(tmp_path / "my.zip", one_each))


@pytest.mark.parametrize("name", ["1.png", "a/1.png", "my set/a/1.png"])
def test_a_zip_without_a_folder_for_each_class_is_refused(tmp_path, name):
    with pytest.raises(ReasonedError) as found:
        load_zip(write_zip(tmp_path / "flat.zip", {name: b"1"}))
    assert found.value.reason == "zip_flat"


def test_a_zip_leaves_nothing_outside_its_folder_and_only_images_in_it(tmp_path):
    entries = {"../../evil.png": b"1", "/etc/evil.png": b"1", "a/.hidden.png": b"1"}
    entries |= {
        "a/run.sh": b"1",
        "__MACOSX/a/._1.png": b"1",
        "set/a/1.png": b"1",
        "set/b/1.jpg": b"",
    }
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    with zipfile.ZipFile(write_zip(tmp_path / "x.zip", entries), "a") as archive:
        link = zipfile.ZipInfo("set/a/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/hostname")
    unpack_images(tmp_path / "x.zip", inside)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {
        "x.zip",
        *(f"deep/inside/{name}" for name in ("etc/evil.png", "set/a/1.png", "set/b/1.jpg")),
    }


def test_the_classes_of_a_zipped_folder_are_found(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"my set/a/1.png": b"1", "my set/b/1.png": b"1"})
    (tmp_path / "out").mkdir()
    assert unpack_images(archive, tmp_path / "out") == (tmp_path / "out" / "my set", 2)


def test_a_class_of_a_zip_without_images_is_not_dropped_in_silence(tmp_path):
    entries = {"a/1.png": b"1", "b/1.png": b"1", "c/1.heic": b"1"}
    with pytest.raises(UserError, match=r"the class folder x\.zip/c has no images in it") as found:
        load_zip(write_zip(tmp_path / "x.zip", entries))
    assert explained(found.value, Words("vi")) == "Không đọc được ảnh nào của lớp «c»."


def test_what_is_not_used_is_counted(tmp_path):
    entries = zipped_things(tmp_path, per_class=3)
    archive = write_zip(tmp_path / "x.zip", entries)
    assert load_zip(archive).unused == 0
    kind = next(iter(entries)).rsplit("/", 1)[0]
    others = {f"{kind}/damaged.png": b"1", f"{kind}/1.heic": b"1", f"{kind}/.hidden.png": b"1"}
    assert load_zip(write_zip(archive, entries | others)).unused == 2


def test_train_and_test_by_other_names_are_asked_for(tmp_path):
    things = zipped_things(tmp_path, per_class=2)
    entries = {
        f"{part}/{name}": data for part in ("Train", "Test") for name, data in things.items()
    }
    with pytest.raises(UserError) as found:
        load_zip(write_zip(tmp_path / "x.zip", entries))
    assert "“train”" in explained(found.value, Words("en"))


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (("train/{}", "val/{}"), "Thiếu thư mục «test»"),
        (("train/all/{}", "test/all/{}"), "Chỉ có một lớp, «all»"),
    ],
)
def test_what_is_wrong_with_its_folders_is_said_in_the_visitors_language(tmp_path, places, said):
    things = zipped_things(tmp_path, per_class=2).items()
    entries = {place.format(name): data for place in places for name, data in things}
    with pytest.raises(UserError) as found:
        load_zip(write_zip(tmp_path / "x.zip", entries))
    assert explained(found.value, Words("vi")).startswith(said)


def test_pictures_without_folders_in_train_and_test_are_told(tmp_path):
    things = zipped_things(tmp_path, per_class=2).items()
    flat = {name.replace("/", "-"): data for name, data in things}
    entries = {f"{split}/{name}": flat[name] for split in ("train", "test") for name in flat}
    with pytest.raises(UserError) as found:
        load_zip(write_zip(tmp_path / "x.zip", entries))
    assert explained(found.value, Words("vi")).startswith("Thư mục «train» cần có một thư mục")


def test_classes_that_only_train_or_only_test_has_are_named(tmp_path):
    things = zipped_things(tmp_path, per_class=2)
    entries = {f"train/{name}": data for name, data in things.items()}
    entries |= {f"test/{name}": data for name, data in things.items()}
    picture = next(iter(things.values()))
    entries |= {"train/zebra/1.png": picture, "test/yak/1.png": picture}
    with pytest.raises(UserError) as found:
        load_zip(write_zip(tmp_path / "x.zip", entries))
    assert "yak, zebra" in explained(found.value, Words("vi"))


def test_a_zip_with_a_password_is_said_to_have_one(tmp_path):
    archive = write_zip(tmp_path / "x.zip", {"a/1.png": b"1", "b/1.png": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flags in the first entry of the directory
    archive.write_bytes(data)
    with pytest.raises(ReasonedError) as found:
        unpack_images(archive, tmp_path)
    assert found.value.reason == "zip_locked"


def test_a_zip_bomb_and_a_file_that_is_no_zip_are_refused(tmp_path):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("a/1.png", b"")
        archive.infolist()[0].file_size = MAX_BYTES + 1  # what its directory claims
    with pytest.raises(ReasonedError) as found:
        unpack_images(bomb, tmp_path)
    assert found.value.reason == "zip_large"
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    with pytest.raises(ReasonedError) as found:
        unpack_images(tmp_path / "no.zip", tmp_path)
    assert found.value.reason == "zip"
