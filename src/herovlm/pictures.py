"""Open a picture as a person would see it: upright, on white, eight bits a colour, and never a trap.

Every entry reads by this one function, so a file and the same picture in memory are the same to the model.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from herovlm.errors import PictureError

LIMIT = 100_000_000  # pixels; more is refused from the header, before anything is decoded

# Raster formats that Pillow decodes itself and knows by their first bytes: no PostScript, no metafiles, no TGA.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000", "QOI")


HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of these files

# Depths of cameras, scanners and detectors.  A file of 16 bits seldom says how many of them are used.
DEPTHS = (8, 10, 12, 14, 16)


def open_picture(source: str | Path | Image.Image, *, limit: int = LIMIT) -> Image.Image:
    """Open a picture, the path of a file or an image in memory, as an upright RGB image.

    EXIF rotation is applied, transparency is laid on white, and an animation gives its first frame (an image in memory
    the frame where it stands).  Grey values of 16 bits are read by the smallest of 8, 10, 12, 14 and 16 bits that holds
    the brightest: 12-bit data are not nearly black, and no picture is brightened more than four times beyond that.
    Wider and float values are scaled, not clipped.  `limit` is in pixels and is checked before anything is decoded.

    Raises:
        PictureError: it is not a whole picture of a known format within the limit.
    """
    if isinstance(source, Image.Image):
        return _read("the picture given", source, limit)
    if not isinstance(source, str | Path):
        raise PictureError(f"{type(source).__name__} is no picture; give the path of a file, or an image of Pillow")
    if str(source).startswith(("http://", "https://")):
        raise PictureError(f"{source} is a web address; download the picture and give the path of the file")
    return _read(Path(source), None, limit)


def _read(name: Path | str, image: Image.Image | None, limit: int) -> Image.Image:
    """Read a file, or the image given; `name` is what errors call it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our limit replaces Pillow's warning
            if image is not None:
                _check_size(name, image, limit)
                return _as_rgb(_upright(image))
            path = Path(name)
            _check_file(path)
            with Image.open(path, formats=_formats()) as found:
                _check_size(path, found, limit)
                return _as_rgb(_upright(found))
    except PictureError:
        raise
    except UnidentifiedImageError:
        if _is_heic(Path(name)):
            raise PictureError(
                f"{name} is a HEIC photo, as phones take them, which cannot be read here; save it as JPEG or PNG "
                "(iPhone: Settings, Camera, Formats, Most Compatible)"
            ) from None
        raise PictureError(f"{name} is not a picture that can be read; give a file of {_names()}") from None
    except Image.DecompressionBombError:
        raise PictureError(f"{name} has far more than {limit:,} pixels; make it smaller first") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on broken data
        raise PictureError(f"{name} is broken or cut off ({_cause(error)}); save or download it again") from error


def _is_heic(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in HEIC


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise PictureError(f"{path} is a directory; give a picture file in it")
        if not path.exists():
            raise PictureError(f"there is no file {path}; check the path (it is read from the current directory)")
        if not path.is_file():
            raise PictureError(f"{path} is not a regular file; give a picture file")
        if path.stat().st_size == 0:
            raise PictureError(f"{path} is empty (0 bytes); save or download the picture again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, PictureError):  # PictureError is a ValueError
            raise
        raise PictureError(f"{path} cannot be opened ({_cause(error)}); check the path and its permissions") from None


def _check_size(name: Path | str, image: Image.Image, limit: int) -> None:
    width, height = image.size
    if width * height == 0:
        raise PictureError(f"{name} is {width} x {height}, so it has no pixels; give a picture with some")
    if width * height > limit:
        raise PictureError(
            f"{name} has {width:,} x {height:,} = {width * height:,} pixels, more than the limit of {limit:,}; "
            "make it smaller first (the model reads far fewer)"
        )


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF says nothing about the pixels: show them as they are
        return image
    turned.format = image.format
    return turned


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), _white(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _white(image: Image.Image) -> float:
    """The value of white in one grey channel: what the format says, or what values of this kind are wont to have."""
    high = float(np.nan_to_num(np.asarray(image), nan=0.0, posinf=0.0, neginf=0.0).max())
    if image.mode == "F":
        return 1.0 if high <= 1.0 else 255.0
    if image.format == "PPM":  # the header has the value of white, and Pillow has scaled by it
        return 65535.0
    return float(next((2**bits - 1 for bits in DEPTHS if high <= 2**bits - 1), 65535))


def _eight_bits(values: np.ndarray, white: float) -> np.ndarray:
    """Scale one grey channel to 0..255 by the value of white, or by its own range where values lie outside that."""
    grey = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    if low < 0.0 or high > white:
        grey, white = grey - low, (high - low) or 1.0
    return np.round(grey * (255.0 / white)).astype(np.uint8)


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _names() -> str:
    names = _formats()
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _cause(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
