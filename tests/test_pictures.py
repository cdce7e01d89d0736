"""Opening pictures: every kind of file gives the picture that a person sees, or one clear sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import bomb
from PIL import Image

from herovlm.errors import PictureError
from herovlm.pictures import open_picture

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(image: Image.Image, path: Path, **how: Any) -> Path:
    image.save(path, **how)
    return path


def ramp(top: float, kind: str) -> Image.Image:
    return Image.fromarray(np.linspace(0, top, 64 * 32).reshape(32, 64).astype(kind))


def grey(path: Path) -> np.ndarray:
    image = open_picture(path)
    assert image.mode == "RGB"
    return np.asarray(image)[..., 0].astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_stands_upright_whatever_the_camera_did(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (40, 20), BLUE)
    upright.paste(RED, (0, 0, 10, 10))  # red in the top left corner
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    image = open_picture(save(stored, tmp_path / "a.png", exif=exif))
    assert image.size == (40, 20)
    assert image.getpixel((3, 3)) == RED
    assert image.getpixel((36, 16)) == BLUE


def test_broken_exif_does_not_hide_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.new("RGB", (8, 4), GREEN), tmp_path / "a.webp", exif=exif, lossless=True)
    path.write_bytes(path.read_bytes().replace(b"MM\x00*", b"M?\x00*").replace(b"II*\x00", b"I?*\x00"))
    image = open_picture(path)
    assert (image.size, image.getpixel((2, 2))) == ((8, 4), GREEN)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (4, 0, 8, 8))
    path = save(image.convert(mode) if mode != "P" else image.quantize(4), tmp_path / "a.png")
    assert open_picture(path).getpixel((1, 1)) == (255, 255, 255)
    assert open_picture(path).getpixel((6, 1)) == (0, 0, 0)


def test_colours_survive_cmyk(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (16, 16), RED).convert("CMYK"), tmp_path / "a.jpg")
    red, green, blue = open_picture(path).getpixel((8, 8))
    assert red > 200
    assert green < 60
    assert blue < 60


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = grey(save(ramp(65535, "uint16"), tmp_path / f"a.{suffix}"))
    assert np.abs(values - np.linspace(0, 255, values.size).reshape(values.shape)).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_need_not_all_be_used(tmp_path: Path, bits: int, suffix: str) -> None:
    """White of a 12-bit detector is 4095, and in a file of 16 bits it is white all the same."""
    path = save(ramp(2**bits - 1, "uint16"), tmp_path / f"a.{suffix}")
    values = grey(path)
    assert np.abs(values - np.linspace(0, 255, values.size).reshape(values.shape)).max() <= 1
    if bits > 8:
        assert 63 <= grey(save(ramp(2 ** (bits - 2) + 1, "uint16"), path)).max() <= 65, "a dark one stays dark"


def test_a_format_that_says_what_white_is_is_believed(tmp_path: Path) -> None:
    values = np.linspace(0, 1000, 64 * 32).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 64 32 4095\n" + values.tobytes())
    assert grey(tmp_path / "a.pgm").max() == 62
    assert grey(save(ramp(13_107, "uint16"), tmp_path / "b.pgm")).max() == 51


def odd_pictures() -> dict[str, Image.Image]:
    """Pictures that are something else before and after they are made eight bits, upright and on white."""
    clear = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
    clear.paste((200, 0, 0, 128), (4, 0, 18, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.new("RGB", (30, 20), BLUE)
    turned.paste(RED, (0, 0, 10, 10))
    turned.info["exif"] = exif.tobytes()
    return {
        "clear": clear,
        "grey and clear": clear.convert("LA"),
        "clear palette": clear.quantize(4),
        "12 bits": ramp(4095, "uint16"),
        "16 bits": ramp(65535, "uint16"),
        "turned": turned,
        "palette": turned.convert("P"),
        "one bit": turned.convert("1"),
    }


@pytest.mark.parametrize("kind", odd_pictures())
def test_a_picture_in_memory_is_the_picture_in_the_file(tmp_path: Path, kind: str) -> None:
    image = odd_pictures()[kind]
    more = {"exif": image.info["exif"]} if "exif" in image.info else {}
    path = save(image, tmp_path / "a.png", **more)
    wanted = open_picture(path)
    with Image.open(path) as opened:
        found = open_picture(opened)
    loaded = Image.open(path)
    loaded.load()
    for one in (found, open_picture(loaded), open_picture(loaded.copy())):
        assert (one.mode, one.size) == ("RGB", wanted.size)
        assert one.tobytes() == wanted.tobytes()
    assert kind != "turned" or wanted.size == (20, 30)


def test_a_picture_in_memory_that_is_none(tmp_path: Path) -> None:
    path = save(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as image, pytest.raises(PictureError, match="the picture given is broken"):
        open_picture(image)
    with pytest.raises(PictureError, match="pixels, more than the limit"):
        open_picture(Image.new("L", (10, 10)), limit=99)
    for thing in (b"bytes", np.zeros((4, 4, 3)), None, 3):
        with pytest.raises(PictureError, match=f"{type(thing).__name__} is no picture"):
            open_picture(thing)  # type: ignore[arg-type]


def test_the_picture_given_is_not_touched(tmp_path: Path) -> None:
    image = odd_pictures()["clear"]
    before = image.tobytes()
    open_picture(image).paste(RED, (0, 0, 5, 5))
    assert (image.tobytes(), image.mode) == (before, "RGBA")
    plain = Image.new("RGB", (5, 5))
    open_picture(plain).paste(RED, (0, 0, 5, 5))
    assert plain.getpixel((1, 1)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("bottom", "top", "black", "white"),
    [(0, 1, 0, 255), (0, 0.2, 0, 51), (0, 255, 0, 255), (0, 51, 0, 51), (0, 9000, 0, 255), (-3, 1, 0, 255)],
)
def test_floats_are_read_as_shares_as_bytes_or_by_their_range(
    tmp_path: Path, bottom: float, top: float, black: int, white: int
) -> None:
    image = Image.fromarray(np.linspace(bottom, top, 64 * 32).reshape(32, 64).astype("float32"))
    values = grey(save(image, tmp_path / "a.tif"))
    assert (values.min(), values.max()) == (black, white)
    assert (np.diff(values.ravel()) >= 0).all()
    assert abs(values.mean() - (black + white) / 2) < 1


def test_long_integers_use_their_range(tmp_path: Path) -> None:
    values = grey(save(ramp(3e6, "int32"), tmp_path / "a.tif"))
    assert (values.min(), values.max()) == (0, 255)


def test_numbers_that_are_none_become_black(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[np.nan, 1.0], [np.inf, 0.5]], dtype="float32"))
    assert grey(save(image, tmp_path / "a.tif")).tolist() == [[0, 255], [0, 128]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr"])
def test_any_mode_comes_out_as_rgb(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (9, 7), (255, 255, 255)).convert(mode)
    image = open_picture(save(white, tmp_path / "a.tif", compression="tiff_lzw"))  # Pillow 12 reads no plain YCbCr
    assert (image.mode, image.size, image.getpixel((4, 4))) == ("RGB", (9, 7), (255, 255, 255))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (12, 12), colour) for colour in (RED, GREEN, BLUE)]
    how = {"lossless": True} if suffix == "webp" else {}
    path = save(frames[0], tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **how)
    assert open_picture(path).getpixel((6, 6)) == RED


@pytest.mark.parametrize("size", [(1, 1), (20_000, 20), (20, 20_000)])
def test_odd_sizes_open(tmp_path: Path, size: tuple[int, int]) -> None:
    assert open_picture(save(Image.new("RGB", size), tmp_path / "a.png")).size == size


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.png", 30_000, 20_000)
    assert path.stat().st_size < 200
    with pytest.raises(PictureError, match="far more than 100,000,000 pixels"):
        open_picture(path)


def test_the_limit_is_in_pixels(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (10, 10)), tmp_path / "a.png")
    assert open_picture(path, limit=100).size == (10, 10)
    with pytest.raises(PictureError, match="10 x 10 = 100 pixels"):
        open_picture(path, limit=99)


def test_large_but_allowed_pictures_do_not_warn(tmp_path: Path) -> None:
    """Pillow warns from 89 million pixels on; our limit is the only voice."""
    path = bomb(tmp_path / "a.png", 9_500, 10_000)
    with pytest.raises(PictureError, match="more than the limit"):
        open_picture(path, limit=90_000_000)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_a_cut_off_file_says_so(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PictureError, match=f"a.{suffix} is (broken|not a picture)"):
        open_picture(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp", "jp2"])
def test_damage_anywhere_gives_a_picture_or_our_error(tmp_path: Path, suffix: str) -> None:
    chance = np.random.default_rng(0)
    noise = chance.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    for _ in range(60):
        broken = bytearray(whole)
        for at in chance.integers(0, min(len(whole), 200), 3):
            broken[at] = chance.integers(0, 256)
        path.write_bytes(broken)
        try:
            mode = open_picture(path).mode
        except PictureError as error:
            mode = "RGB" if "\n" not in str(error) else "torn"
        assert mode == "RGB"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("text.png", b"hello, I am no picture", "not a picture"),
        ("page.jpg", b"<!doctype html><html></html>", "not a picture"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        ("script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
        ("maxval.ppm", b"P5 4 4 99999999\n" + bytes(16), "broken"),
        ("empty.png", b"", "0 bytes"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PictureError, match=says) as error:
        open_picture(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [("", "directory"), ("no.png", "no file"), ("x" * 300, "cannot be opened"), ("bad\0name", "no file|cannot be")],
)
def test_what_is_no_file_is_named(tmp_path: Path, given: str, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        open_picture(tmp_path / given)


def test_a_web_address_is_no_path() -> None:
    with pytest.raises(PictureError, match=r"https://example\.org/a\.png is a web address"):
        open_picture("https://example.org/a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="not a regular file"):
        open_picture(tmp_path / "pipe.png")


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_photo_of_a_phone_is_told_what_it_is_and_what_to_do(tmp_path: Path, brand: bytes) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 40)
    with pytest.raises(PictureError, match=r"IMG_1\.HEIC is a HEIC photo.*save it as JPEG"):
        open_picture(tmp_path / "IMG_1.HEIC")


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_none(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match="no pixels"):
        open_picture(Image.new("RGB", size))
