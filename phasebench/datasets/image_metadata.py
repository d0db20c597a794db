"""Image files without their metadata, for decoding pixels that are whole although the metadata is broken."""

from __future__ import annotations

import struct

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
TRANSPARENCY, PNG_EXIF = b"tRNS", b"eXIf"
APPLICATION, JFIF, ADOBE, COMMENT, SCAN = range(0xE0, 0xF0), 0xE0, 0xEE, 0xFE, 0xDA
"""Markers of JPEG segments; decoding needs JFIF's and Adobe's."""
JPEG_EXIF = b"Exif\0\0"
WEBP_FLAGS = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
"""WebP's chunks of metadata -> their bit in the header chunk ``VP8X``."""


def without_metadata(data: bytes, *, keep_exif: bool = False) -> bytes:
    """The file without metadata that decoding does not need; other formats than PNG, JPEG, WebP unchanged.

    Args:
        data: the content of an image file.
        keep_exif: whether the EXIF data stay, because they have the orientation.
    """
    if data.startswith(PNG):
        return _png(data, (TRANSPARENCY, PNG_EXIF) if keep_exif else (TRANSPARENCY,))
    if data.startswith(JPEG):
        return _jpeg(data, JPEG_EXIF if keep_exif else None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data, {name for name in WEBP_FLAGS if not (keep_exif and name == b"EXIF")})
    return data


def _png(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    """The PNG with its critical chunks, whose names begin with a capital, and the chunks ``kept``."""
    parts, position = [PNG], len(PNG)
    while position + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        end = position + size + 12
        if name[:1].isupper() or name in kept:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)


def _jpeg(data: bytes, kept: bytes | None) -> bytes:
    """The JPEG without comments and application segments but JFIF's, Adobe's and one that begins ``kept``."""
    parts, position = [JPEG], len(JPEG)
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != SCAN:
        marker = data[position + 1]
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        is_metadata = marker == COMMENT or (marker in APPLICATION and marker not in (JFIF, ADOBE))
        is_kept = kept is not None and data[position + 4 : end].startswith(kept)
        if marker == 0xFF:  # a byte that fills a gap
            end = position + 1
        elif not is_metadata or is_kept:
            parts.append(data[position:end])
        position = end
    return b"".join(parts) + data[position:]


def _webp(data: bytes, dropped: set[bytes]) -> bytes:
    """The WebP without the chunks ``dropped``, and without their bits in the header."""
    parts, position = [], 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        chunk = bytearray(data[position : position + 8 + size + size % 2])
        if name == b"VP8X" and len(chunk) > 8:
            chunk[8] &= ~sum(WEBP_FLAGS[name] for name in dropped)
        if name not in dropped:
            parts.append(bytes(chunk))
        position += 8 + size + size % 2
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
