"""Files that are cheap to make and dear to open."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from PIL import Image


def bomb(path: Path, width: int, height: int) -> Path:
    """Write a PNG of a few bytes whose header promises `width` x `height` pixels."""
    Image.new("1", (8, 8)).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return path
