"""Compression of message bodies, by kombu's names and MIME types (kombu/compression.py), with bounded output.

Rules: decompressing never produces more than the caller's limit, whatever the bytes claim; an incomplete or
damaged stream is a DecodeError; a module that is not installed is a MissingExtra, raised when it is needed.
kombu gives zlib and gzip one MIME type and writes zlib streams under it; both are read, told apart by their
first bytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from engine.errors import ConfigurationError, DecodeError, MessageTooLarge, MissingExtra, install_hint

__all__ = ["compress", "decompress", "mime_type"]

GZIP = "application/x-gzip"
BZ2 = "application/x-bz2"
LZMA = "application/x-lzma"
BROTLI = "application/x-brotli"
ZSTD = "application/zstd"

_MIME_TYPES = {
    "gzip": GZIP,
    "zlib": GZIP,
    "bzip2": BZ2,
    "bzip": BZ2,
    "lzma": LZMA,
    "xz": LZMA,
    "brotli": BROTLI,
    "zstd": ZSTD,
    "zstandard": ZSTD,
}

#: What a decoder may use beside its output: xz -9 takes 65 MiB, zstd's largest usual window is 8 MiB.
_LZMA_MEMORY_BYTES = 128 * 2**20
_ZSTD_WINDOW_BYTES = 128 * 2**20
_CHUNK_BYTES = 256 * 1024
_ZLIB_OR_GZIP = 32 + 15  # zlib's wbits: detect the header, any window


class _Stream(Protocol):
    """What the decompressors of zlib, bz2, lzma and the standard zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def mime_type(name: str) -> str:
    """The MIME type of a compression named as kombu names it; a MIME type is returned as it is.

    Raises ConfigurationError for a name that is not known.
    """
    if name in _MIME_TYPES.values():
        return name
    try:
        return _MIME_TYPES[name]
    except KeyError:
        known = ", ".join(sorted(_MIME_TYPES))
        raise ConfigurationError(f"unknown compression {name!r}; known are {known}") from None


def compress(body: bytes, name: str) -> tuple[bytes, str]:
    """The compressed body, and the MIME type for the header ``compression``.

    Raises ConfigurationError for an unknown name, MissingExtra when its module is not installed.
    """
    mime = mime_type(name)
    return _COMPRESSORS[mime](body), mime


def decompress(body: bytes, mime: str, limit_bytes: int) -> bytes:
    """The body as it was before `compress`; `mime` may also be a name.

    Raises MessageTooLarge when it would be larger than ``limit_bytes``, DecodeError when it is damaged,
    incomplete or of an unknown compression, MissingExtra when the module is not installed.
    """
    name = str(mime)[:60]  # it comes from a header, which can hold anything
    decompressor = _DECOMPRESSORS.get(_MIME_TYPES.get(name, name))
    if decompressor is None:
        raise DecodeError(f"the body has an unknown compression {name!r}; known are {sorted(_DECOMPRESSORS)}")
    return decompressor(body, limit_bytes)


def _too_large(limit_bytes: int) -> MessageTooLarge:
    return MessageTooLarge(f"the body decompresses to more than {limit_bytes} bytes, the limit that is set")


def _too_much_memory(limit_bytes: int) -> MessageTooLarge:
    return MessageTooLarge(f"the body needs more than {limit_bytes} bytes of memory to decompress")


def _damaged(mime: str, reason: object) -> DecodeError:
    return DecodeError(f"the body is not {mime} as it claims: {reason}")


def _module(mime: str, extra: str, *names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingExtra(f"a body of type {mime} needs a module that is not there: {install_hint(extra)}")


def _read_streams(open_stream: Callable[[], _Stream], body: bytes, limit_bytes: int, mime: str) -> bytes:
    """One stream after the other, as the command-line tools concatenate them."""
    parts = []
    room = limit_bytes
    while True:
        stream = open_stream()
        part = stream.decompress(body, room + 1)  # one byte more than allowed tells "full" from "too large"
        if len(part) > room:
            raise _too_large(limit_bytes)
        if not stream.eof:
            raise _damaged(mime, "it ends too early")
        parts.append(part)
        room -= len(part)
        body = stream.unused_data
        if not body:
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _compress_gzip(body: bytes) -> bytes:
    import zlib

    return zlib.compress(body)


def _decompress_gzip(body: bytes, limit_bytes: int) -> bytes:
    import zlib

    try:
        return _read_streams(lambda: zlib.decompressobj(_ZLIB_OR_GZIP), body, limit_bytes, GZIP)
    except zlib.error as error:
        raise _damaged(GZIP, error) from None


def _compress_bz2(body: bytes) -> bytes:
    bz2 = _module(BZ2, "all", "bz2")
    compressed: bytes = bz2.compress(body)
    return compressed


def _decompress_bz2(body: bytes, limit_bytes: int) -> bytes:
    bz2 = _module(BZ2, "all", "bz2")
    try:
        return _read_streams(bz2.BZ2Decompressor, body, limit_bytes, BZ2)
    except OSError as error:
        raise _damaged(BZ2, error) from None


def _compress_lzma(body: bytes) -> bytes:
    lzma = _module(LZMA, "all", "lzma")
    compressed: bytes = lzma.compress(body)
    return compressed


def _decompress_lzma(body: bytes, limit_bytes: int) -> bytes:
    lzma = _module(LZMA, "all", "lzma")
    try:
        return _read_streams(
            lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES), body, limit_bytes, LZMA
        )
    except lzma.LZMAError as error:
        if "Memory usage limit" in str(error):
            raise _too_much_memory(_LZMA_MEMORY_BYTES) from None
        raise _damaged(LZMA, error) from None


def _compress_brotli(body: bytes) -> bytes:
    compressed: bytes = _module(BROTLI, "brotli", "brotli").compress(body)
    return compressed


def _decompress_brotli(body: bytes, limit_bytes: int) -> bytes:
    brotli = _module(BROTLI, "brotli", "brotli")
    stream = brotli.Decompressor()
    parts = []
    room = limit_bytes
    fed = body
    try:
        while not stream.is_finished():
            part = stream.process(fed, output_buffer_limit=min(room + 1, _CHUNK_BYTES))
            fed = b""
            room -= len(part)
            if room < 0:
                raise _too_large(limit_bytes)
            if not part and not stream.is_finished():
                raise _damaged(BROTLI, "it ends too early")
            parts.append(part)
    except TypeError:  # no output_buffer_limit: no bound could be kept
        raise MissingExtra("bodies in brotli need brotli 1.2 or newer: pip install -U brotli") from None
    except brotli.error as error:
        raise _damaged(BROTLI, error) from None
    return b"".join(parts)


def _zstd() -> Any:
    """Python 3.14's module or its backport, which kombu uses; else `zstandard`."""
    return _module(ZSTD, "zstd", "compression.zstd", "backports.zstd", "zstandard")


def _compress_zstd(body: bytes) -> bytes:
    compressed: bytes = _zstd().compress(body)
    return compressed


def _decompress_zstd(body: bytes, limit_bytes: int) -> bytes:
    zstd = _zstd()
    try:
        if hasattr(zstd, "DecompressionParameter"):
            window = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_BYTES.bit_length() - 1}
            return _read_streams(lambda: zstd.ZstdDecompressor(options=window), body, limit_bytes, ZSTD)
        return _decompress_zstandard(zstd, body, limit_bytes)
    except zstd.ZstdError as error:
        if "too much memory" in str(error):
            raise _too_much_memory(_ZSTD_WINDOW_BYTES) from None
        raise _damaged(ZSTD, error) from None


def _decompress_zstandard(zstandard: Any, body: bytes, limit_bytes: int) -> bytes:
    """Its bounded reader can't tell a cut stream from a whole one, so: count with it, then read."""
    room = limit_bytes
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    reader = decompressor.stream_reader(body, read_across_frames=True)
    while chunk := reader.read(min(room + 1, _CHUNK_BYTES)):
        room -= len(chunk)
        if room < 0:
            raise _too_large(limit_bytes)
    parts = []
    while True:
        stream = decompressor.decompressobj()
        parts.append(stream.decompress(body))
        if not stream.eof:
            raise _damaged(ZSTD, "it ends too early")
        body = stream.unused_data
        if not body:
            return b"".join(parts)


_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    GZIP: _compress_gzip,
    BZ2: _compress_bz2,
    LZMA: _compress_lzma,
    BROTLI: _compress_brotli,
    ZSTD: _compress_zstd,
}
_DECOMPRESSORS: dict[str, Callable[[bytes, int], bytes]] = {
    GZIP: _decompress_gzip,
    BZ2: _decompress_bz2,
    LZMA: _decompress_lzma,
    BROTLI: _decompress_brotli,
    ZSTD: _decompress_zstd,
}
