"""Bodies written and read: serialized, compressed, and refused when they are not accepted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from engine.codec import Delivery, json_decode, json_encode

JSON = "application/json"


def write_body(
    body: Any,
    serializer: str | None,
    content_type: str | None = None,
    content_encoding: str | None = None,
    compression: str | None = None,
) -> tuple[bytes, str, str, str | None]:
    """(bytes, content type, content encoding, compression MIME type or None), as kombu's producer does it:
    bytes and text go as they are unless a serializer is named; with a content type the body is ready."""
    if content_type is not None:
        content_encoding = content_encoding or ("utf-8" if isinstance(body, str) else "binary")
        data = body.encode(content_encoding) if isinstance(body, str) else bytes(body)
    elif serializer is None and isinstance(body, (bytes, bytearray, memoryview)):
        data, content_type, content_encoding = bytes(body), "application/data", "binary"
    elif serializer is None and isinstance(body, str):
        data, content_type, content_encoding = body.encode(), "text/plain", "utf-8"
    elif serializer in (None, "json", JSON):
        data, content_type, content_encoding = json_encode(body), JSON, "utf-8"
    else:
        from engine.serialization import dumps

        content_type, content_encoding, data = dumps(body, serializer, write_json=json_encode)
    if not compression:
        return data, content_type, content_encoding, None
    from engine.serialization import compress

    data, mime = compress(data, compression)
    return data, content_type, content_encoding, mime


def unpacked(delivery: Delivery, accept: Collection[str] | None, limit: int) -> bytes:
    """The body, decompressed if its header says so; never more than ``limit`` bytes (MessageTooLarge).

    What would be refused anyway (ContentDisallowed) is not decompressed first."""
    mime = delivery.header("compression")
    if not mime:
        return delivery.body
    from engine.serialization import accepted_types, decompress, loads

    if (delivery.content_type or "").lower() not in accepted_types(accept):
        loads(b"", delivery.content_type, delivery.content_encoding, accept)  # raises, with the reason
    return decompress(delivery.body, mime, limit)


def read_body(delivery: Delivery, accept: Collection[str] | None, limit: int) -> Any:
    """The value of a delivery's body. Raises ContentDisallowed, DecodeError, MessageTooLarge.

    ``accept`` holds serializer names or content types; None takes what needs no trust."""
    from engine.serialization import loads

    body = unpacked(delivery, accept, limit)
    return loads(body, delivery.content_type, delivery.content_encoding, accept, read_json=json_decode)
