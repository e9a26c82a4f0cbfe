"""Compression by kombu's names, and decompression that never gives more than it is allowed to."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from kombu import compression as kombu_compression

from engine import compression
from engine.compression import compress, decompress, mime_type
from engine.errors import ConfigurationError, DecodeError, MessageTooLarge

NAMES = ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "brotli", "zstd", "zstandard"]
BODY = b'[["hello", 1], {}, {}]' * 500
LIMIT = len(BODY)


@pytest.mark.parametrize("name", NAMES)
def test_both_ways(name: str) -> None:
    packed, mime = compress(BODY, name)
    assert len(packed) < len(BODY) / 10
    assert mime == mime_type(name) == mime_type(mime)
    assert decompress(packed, mime, LIMIT) == BODY
    assert decompress(packed, name, LIMIT) == BODY
    assert decompress(compress(b"", name)[0], mime, 0) == b""


@pytest.mark.parametrize("name", NAMES)
def test_as_kombu(name: str) -> None:
    try:
        _, mime = kombu_compression.get_encoder(name)
    except KeyError:
        pytest.skip(f"kombu has no {name} here")
    packed, ours = compress(BODY, name)
    assert ours == mime
    assert kombu_compression.decompress(packed, mime) == BODY
    assert decompress(*kombu_compression.compress(BODY, name), LIMIT) == BODY


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [0, 1, LIMIT - 1])
def test_one_byte_over_the_limit_is_too_large(name: str, limit: int) -> None:
    with pytest.raises(MessageTooLarge, match=f"more than {limit} bytes"):
        decompress(*compress(BODY, name), limit)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_bodies(name: str) -> None:
    packed, mime = compress(BODY, name)
    for bad in (
        b"",
        packed[:1],
        packed[: len(packed) // 2],
        packed[:-1],
        packed + b"garbage",
        b"garbage",
        BODY,
    ):
        with pytest.raises(DecodeError, match=f"not {mime}"):
            decompress(bad, mime, LIMIT)


def test_gzip_and_zlib_share_a_type_and_both_are_read() -> None:
    for packed in (gzip.compress(BODY), zlib.compress(BODY), zlib.compress(BODY, 0)):
        assert decompress(packed, "application/x-gzip", LIMIT) == BODY


@pytest.mark.parametrize(
    ("mime", "pack"),
    [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)],
)
def test_streams_one_after_the_other(mime: str, pack: Callable[[bytes], bytes]) -> None:
    assert decompress(pack(BODY) + pack(BODY), mime, 2 * LIMIT) == BODY + BODY
    with pytest.raises(MessageTooLarge):
        decompress(pack(BODY) + pack(BODY), mime, 2 * LIMIT - 1)


@pytest.fixture(params=["compression.zstd", "backports.zstd", "zstandard"])
def zstd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each module that can be had for it."""
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(compression, "_zstd", lambda: module)
    return module


def test_zstd_by_any_module(zstd: Any) -> None:
    packed = zstd.compress(BODY)
    assert decompress(packed, "zstd", LIMIT) == BODY
    assert decompress(packed + packed, "zstd", 2 * LIMIT) == BODY + BODY
    for limit in (0, LIMIT - 1):
        with pytest.raises(MessageTooLarge):
            decompress(packed, "zstd", limit)
    for bad in (b"", packed[:5], packed[:-1], packed + b"garbage", BODY):
        with pytest.raises(DecodeError):
            decompress(bad, "zstd", LIMIT)


def test_zstd_frames_that_do_not_tell_their_size(zstd: Any) -> None:
    writer = zstd.ZstdCompressor().compressobj() if zstd.__name__ == "zstandard" else zstd.ZstdCompressor()
    packed = writer.compress(BODY) + writer.flush()
    assert decompress(packed, "zstd", LIMIT) == BODY
    with pytest.raises(MessageTooLarge):
        decompress(packed, "zstd", LIMIT - 1)
    with pytest.raises(DecodeError):
        decompress(packed[:-5], "zstd", LIMIT)


def test_a_zstd_window_that_would_fill_the_memory(zstd: Any) -> None:
    #: a frame of window log 28 that holds one raw block of one byte
    packed = bytes.fromhex("28b52ffd") + bytes([0x00, (28 - 10) << 3]) + bytes([1 | 1 << 3, 0, 0]) + b"x"
    with pytest.raises(MessageTooLarge, match="memory"):
        decompress(packed, "zstd", LIMIT)


def test_a_dictionary_that_would_fill_the_memory() -> None:
    packed = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**30}])
    with pytest.raises(MessageTooLarge, match="memory"):
        decompress(packed, "xz", LIMIT)


@pytest.mark.parametrize("mime", ["", "snappy", "application/x-snappy", "application/json"])
def test_unknown_compressions(mime: str) -> None:
    with pytest.raises(DecodeError, match="unknown compression"):
        decompress(b"", mime, LIMIT)
    for odd in (5, [mime], None):
        with pytest.raises(DecodeError, match="unknown compression"):
            decompress(b"", odd, LIMIT)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="known are brotli, bzip"):
        compress(b"", mime)


BOMB = """
import resource, sys
from engine import compression
from engine.compression import compress, decompress
from engine.errors import MessageTooLarge
name, limit = sys.argv[1], 2**20
packed, mime = compress(b"", name)  # what it imports is paid before measuring
decompress(packed, mime, limit)
packed = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decompress(packed, mime, limit)
except MessageTooLarge:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "brotli", "zstd"])
def test_a_bomb_costs_no_more_memory_than_the_limit_allows(name: str) -> None:
    size = 64 * 2**20
    packers = {
        "brotli": lambda body: brotli.compress(body, quality=5),
        "xz": lambda body: lzma.compress(body, preset=1),
    }
    packed = packers.get(name, lambda body: compress(body, name)[0])(bytes(size))
    assert len(packed) < 200_000
    done = subprocess.run([sys.executable, "-c", BOMB, name], input=packed, capture_output=True, check=True)
    assert int(done.stdout) * 1024 < size / 2  # ru_maxrss is in KiB
