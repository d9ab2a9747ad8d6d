"""Real files of every kind that people have, and of the kinds that only look like pictures."""

import io
import pickle
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from cifar_torch.images import MAX_BYTES, MAX_MEGAPIXELS, ImageError, look, open_image, to_pixels

RED, GREEN, BLUE, WHITE = (220, 30, 40), (30, 200, 60), (20, 60, 210), (255, 255, 255)


def quarters(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red, green / blue, white: a picture whose every turn and mirror image looks different."""
    small = Image.new("RGB", (2, 2))
    small.putdata([RED, GREEN, BLUE, WHITE])
    return small.resize(size, Image.Resampling.NEAREST)


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth shapes with fine grain, as a camera would see."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    grain = rng.normal(0, 6, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The middles of the four quarters, in reading order."""
    w, h = image.size
    return [image.getpixel((x, y)) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]


def assert_close(got, wanted, tolerance: float) -> None:
    assert np.abs(np.asarray(got, float) - np.asarray(wanted, float)).max() <= tolerance, got


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write. `rows` begin with their filter, 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 8),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 8),
        ("JPEG", {"quality": 95}, 8),
        ("JPEG", {"quality": 95, "progressive": True}, 8),
        ("MPO", {"quality": 95}, 8),
        ("GIF", {}, 0),
        ("AVIF", {"quality": 95}, 8),
    ],
)
def test_every_format(kind, options, tolerance):
    image = open_image(encode(quarters(), kind, **options))
    assert (image.mode, image.size) == ("RGB", (64, 48))
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE], tolerance)


@pytest.mark.parametrize("source", ["path", "str", "bytes", "file", "pil", "array"])
def test_every_source(source, tmp_path: Path):
    picture = quarters()
    path = tmp_path / "picture.png"
    picture.save(path)
    with path.open("rb") as file:
        given = {
            "path": path,
            "str": str(path),
            "bytes": path.read_bytes(),
            "file": file,
            "pil": picture,
            "array": np.asarray(picture),
        }[source]
        assert corners(open_image(given)) == [RED, GREEN, BLUE, WHITE]


def test_a_picture_of_the_networks_own_size_goes_in_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    got = to_pixels(open_image(encode(Image.fromarray(pixels), "PNG")))
    assert got.dtype == np.uint8
    assert np.array_equal(got, pixels)
    assert np.array_equal(look(Image.fromarray(pixels)), pixels[None])


def test_a_larger_picture_is_looked_at_whole_and_in_its_middle():
    image = Image.new("RGB", (300, 100), RED)
    image.paste(GREEN, (100, 0, 200, 100))
    image.paste(BLUE, (110, 10, 190, 90))
    whole, middle, closer = look(image)
    assert np.array_equal(whole, to_pixels(image))
    assert_close(whole[[0, -1], [0, -1]], np.broadcast_to(RED, (2, 3)), 2)
    assert_close(middle[[0, 0, -1, -1], [0, -1, 0, -1]], np.broadcast_to(GREEN, (4, 3)), 20)
    assert_close(closer, np.broadcast_to(BLUE, closer.shape), 24)


def test_the_views_are_those_that_were_measured():
    photo = photograph(240, 240)
    for view, box in zip(look(photo), ((0, 0, 240, 240), (24, 24, 216, 216)), strict=True):
        plain = photo.crop(box).resize((32, 32), Image.Resampling.BICUBIC)
        wanted = np.asarray(plain.filter(ImageFilter.GaussianBlur(0.4)))
        assert np.abs(view.astype(int) - wanted).mean() < 0.5


def test_a_square_picture_is_its_own_middle_square():
    whole, closer = look(photograph(300, 300))
    assert np.abs(whole.astype(int) - closer).mean() > 1


def test_twelve_megapixels_look_as_they_do_small():
    photo = photograph(4000, 3000)
    small = look(photo.resize((800, 600), Image.Resampling.BOX)).astype(int)
    assert np.abs(look(photo) - small).mean() < 1


def test_animated_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (40, 30), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert open_image(data).getpixel((20, 15)) == RED


def test_animated_webp_gives_its_first_frame():
    frames = [Image.new("RGB", (40, 30), colour) for colour in (RED, GREEN)]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert open_image(data).getpixel((20, 15)) == RED


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_brightness(kind):
    levels = np.array([0, 16384, 32768, 49152, 65535], np.uint16)
    image = open_image(encode(Image.fromarray(np.tile(levels, (5, 1))), kind))
    assert [image.getpixel((x, 2)) for x in range(5)] == [(v,) * 3 for v in (0, 64, 128, 191, 255)]


def test_16_bit_grey_tiff_big_endian_and_turned():
    levels = np.array([[65535, 0], [0, 0]], np.uint16)
    stored = Image.frombytes("I;16B", (2, 2), levels.astype(">u2").tobytes())
    image = open_image(encode(stored, "TIFF", tiffinfo={0x0112: 3}))
    assert [image.getpixel((x, y))[0] for y in (0, 1) for x in (0, 1)] == [0, 0, 0, 255]


def test_16_bit_rgb_png_keeps_its_colours():
    row = b"\0" + struct.pack(">6H", *(v * 257 for v in RED + GREEN))
    image = open_image(png(2, 1, 16, 2, row))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [RED, GREEN]


def test_16_bit_rgb_tiff_keeps_its_colours():
    pixels = struct.pack("<6H", *(v * 257 for v in RED + GREEN))
    fields = [  # tag, type (3: 16 bits, 4: 32 bits), count, value or where it lies
        (256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    head = b"II*\0" + struct.pack("<I", 14 + len(pixels)) + struct.pack("<3H", 16, 16, 16)
    directory = b"".join(struct.pack("<HHII", *field) for field in fields)
    image = open_image(head + pixels + struct.pack("<H", len(fields)) + directory + bytes(4))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [RED, GREEN]


@pytest.mark.parametrize("scale", [1, 255])
def test_floating_point_tiff(scale):
    values = np.array([[0, 0.5], [1, np.nan]], np.float32) * scale
    image = open_image(encode(Image.fromarray(values), "TIFF"))
    assert [image.getpixel((x, y))[0] for y in (0, 1) for x in (0, 1)] == [0, 128, 255, 0]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_1_bit(kind):
    image = Image.new("1", (8, 8), 0)
    image.paste(1, (4, 0, 8, 8))
    got = open_image(encode(image, kind))
    assert (got.getpixel((1, 4)), got.getpixel((6, 4))) == ((0, 0, 0), WHITE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM"])
def test_grey(kind):
    assert_close(open_image(encode(Image.new("L", (20, 20), 97), kind)).getpixel((9, 9)), 97, 1)


def test_transparency_lies_over_white():
    def middle(image: Image.Image, kind: str = "PNG", **options) -> tuple[int, ...]:
        return open_image(encode(image, kind, **options)).getpixel((5, 5))

    size = (10, 10)
    assert middle(Image.new("RGBA", size, (0, 0, 0, 0))) == WHITE
    assert middle(Image.new("RGBA", size, (*RED, 255))) == RED
    assert_close(middle(Image.new("RGBA", size, (0, 0, 0, 128))), 127, 1)
    assert_close(middle(Image.new("LA", size, (100, 128))), 177, 1)
    assert middle(Image.new("RGBA", size, (9, 9, 9, 0)), "WEBP", lossless=True) == WHITE
    assert middle(Image.new("RGB", size, RED), transparency=RED) == WHITE

    palette = Image.new("P", size, 1)
    palette.putpalette([*RED, *GREEN, *BLUE])
    assert middle(palette) == GREEN
    assert middle(palette, transparency=1) == WHITE
    assert middle(palette, transparency=0) == GREEN
    assert middle(palette, transparency=bytes([255, 0, 255])) == WHITE
    assert middle(palette, "GIF", transparency=1) == WHITE


def test_cmyk_jpeg():
    data = encode(quarters().convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert_close(corners(open_image(data)), [RED, GREEN, BLUE, WHITE], 12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_rotation(kind, orientation, turn):
    """`turn` is what the camera did: stored so, and marked, the picture is seen upright."""
    upright = quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(turn) if turn is not None else upright
    image = open_image(encode(stored, kind, exif=exif, quality=95))
    assert image.size == upright.size
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE], 10)


def test_a_photograph_decoded_small_is_the_same_to_the_network():
    photo = photograph(1600, 1200)
    data = encode(photo, "JPEG", quality=90)
    image = open_image(data)
    assert image.size == (200, 150)
    whole = to_pixels(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    difference = np.abs(to_pixels(image) - whole)
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def test_a_photograph_decoded_small_is_still_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = quarters((1600, 1200)).transpose(Image.Transpose.ROTATE_90)
    image = open_image(encode(stored, "JPEG", quality=95, exif=exif))
    assert image.size == (200, 150)
    assert_close(corners(image), [RED, GREEN, BLUE, WHITE], 10)


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000), (31, 33)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_odd_sizes(size, kind):
    pixels = to_pixels(open_image(encode(Image.new("RGB", size, RED), kind)))
    assert pixels.shape == (32, 32, 3)
    assert_close(pixels, np.broadcast_to(RED, pixels.shape), 4)
    assert_close(look(open_image(encode(Image.new("RGB", size, RED), kind)))[-1], pixels, 1)


def cut(kind: str, **options) -> bytes:
    data = encode(photograph(300, 200), kind, **options)
    return data[: len(data) // 2]


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="9"/></svg>'


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just some words, and no picture at all\n", "unreadable"),
        (SVG, "unreadable"),
        (b"<!doctype html><html><body><img src=cat.jpg></body></html>", "unreadable"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "unreadable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable"),
        (bytes(1000), "unreadable"),
        (b"\xff\xd8\xff", "unreadable"),
        (cut("JPEG"), "broken"),
        (cut("JPEG", progressive=True), "broken"),
        (cut("PNG"), "broken"),
        (cut("BMP"), "broken"),
        (cut("TIFF", compression="tiff_lzw"), "unreadable"),
        (cut("WEBP"), "unreadable"),
        (cut("GIF"), "broken"),
    ],
)
def test_what_is_no_picture_gets_a_sentence(data, reason):
    with pytest.raises(ImageError) as caught:
        open_image(data, name="holiday.jpg")
    assert caught.value.reason == reason
    message = str(caught.value)
    assert message.startswith("holiday.jpg ")
    assert message.endswith(".")
    assert "\n" not in message
    assert ("use JPEG, PNG" in message) == (reason == "unreadable")


def test_a_400_megapixel_bomb_is_refused_before_it_is_decoded():
    rows = zlib.compress(b"\0" + bytes(2500))  # the rest of its rows is never looked at
    data = png(20_000, 20_000, 1, 0, rows)
    assert len(data) < 200
    with pytest.raises(ImageError, match=f"at most {MAX_MEGAPIXELS} megapixels") as caught:
        open_image(data)
    assert caught.value.reason == "too_large"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_jpeg_that_repeats_a_scan_without_end_is_refused_before_it_is_decoded():
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    scan = bytes.fromhex("ffda0008010100053f00") + b"\x00"  # a header, and coefficients of 0
    assert open_image(data).size == (64, 64)
    with pytest.raises(ImageError, match="more than 100 scans"):
        open_image(data[:-2] + 200 * scan + data[-2:])


def test_a_photograph_with_a_film_behind_it_is_read():
    """As telephones make them; by chance the film holds a scan's marker many times."""
    film = np.random.default_rng(0).bytes(10_000_000)
    assert film.count(b"\xff\xda") > 100
    assert open_image(encode(photograph(64, 64), "JPEG") + film).size == (64, 64)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path):
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse
    with pytest.raises(ImageError, match="too large"):
        open_image(tmp_path / "x.png")


def test_a_picture_just_above_the_limit_says_its_size():
    with pytest.raises(ImageError, match=r"\(10001 x 10000 pixels\)"):
        open_image(png(10_001, 10_000, 1, 0, b""))


def test_a_damaged_file_leaves_the_network_nothing_to_see():
    data = bytearray(encode(photograph(64, 64), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError) as caught:
        open_image(bytes(data))
    assert caught.value.reason == "broken"


def test_what_pillow_has_opened_and_cannot_read_gets_a_sentence():
    data = encode(photograph(640, 480), "JPEG")
    with pytest.raises(ImageError, match="is cut off or damaged"):
        open_image(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_an_array_that_is_no_picture_gets_a_sentence():
    with pytest.raises(ImageError, match=r"\(8, 8, 3\) of float32 is no picture"):
        open_image(np.zeros((8, 8, 3), np.float32))


def test_missing_file_and_directory(tmp_path: Path):
    for path, words in (
        (tmp_path / "no.png", "no.png: No such file"),
        (tmp_path, "s a directory"),
    ):
        with pytest.raises(ImageError, match=words) as caught:
            open_image(path)
        assert caught.value.reason == "missing"


def test_several_threads_read_at_once():
    files = {colour: encode(Image.new("RGB", (900, 700), colour), "PNG") for colour in (RED, BLUE)}
    wrong = []

    def read(colour: tuple[int, int, int]) -> None:
        for _ in range(10):
            if open_image(files[colour]).getpixel((450, 350)) != colour:
                wrong.append(colour)

    threads = [threading.Thread(target=read, args=(colour,)) for colour in (RED, BLUE) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_error_reaches_another_process_as_it_is():
    error = pickle.loads(pickle.dumps(ImageError("missing", "x.png: no such file.")))
    assert isinstance(error, ImageError)
    assert (error.reason, str(error)) == ("missing", "x.png: no such file.")


def test_a_picture_that_cannot_be_turned_is_read_as_it_lies(monkeypatch):
    def damaged(image, in_place):
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(ImageOps, "exif_transpose", damaged)
    assert open_image(encode(quarters(), "PNG")).size == (64, 48)
