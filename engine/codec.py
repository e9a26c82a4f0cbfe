"""The facade of the extension: the only module that imports `engine._codec`.

Import-linter cannot see into a compiled module; with one importer the layers stay checkable.
"""

from __future__ import annotations

from engine._codec import (
    HEARTBEAT_FRAME,
    PROTOCOL_HEADER,
    Delivery,
    FrameDecoder,
    Heartbeat,
    Message,
    Method,
    Returned,
    TaskMessage,
    TaskTemplate,
    decode_envelope,
    decode_table,
    decode_task,
    encode_acks,
    encode_envelope,
    encode_method,
    encode_nacks,
    encode_publish,
    encode_table,
    encode_task_body,
    encode_task_headers,
    format_ids,
    json_decode,
    json_encode,
    take_without,
)

__all__ = [
    "HEARTBEAT_FRAME",
    "PROTOCOL_HEADER",
    "Delivery",
    "FrameDecoder",
    "Heartbeat",
    "Message",
    "Method",
    "Returned",
    "TaskMessage",
    "TaskTemplate",
    "decode_envelope",
    "decode_table",
    "decode_task",
    "encode_acks",
    "encode_envelope",
    "encode_method",
    "encode_nacks",
    "encode_publish",
    "encode_table",
    "encode_task_body",
    "encode_task_headers",
    "format_ids",
    "json_decode",
    "json_encode",
    "take_without",
]
