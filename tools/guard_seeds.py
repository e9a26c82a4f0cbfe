"""The slow-downs that `tools/guard_check.py` plants in a copy of the tree, and the guard to catch each."""

from __future__ import annotations

from dataclasses import dataclass

INSTRUCTIONS = ("-m", "tools.instructions")


def ratios(which: str) -> tuple[str, ...]:
    """The benchmarks whose names hold ``which``."""
    quiet = ("-q", "--tb=line", "--benchmark-disable", "-p", "no:randomly", "-p", "no:cacheprovider")
    return ("-m", "pytest", "benchmarks", *quiet, "-k", which)


@dataclass(frozen=True)
class Edit:
    """What stands in place of ``text``, which must be there once; an empty ``text`` is a new file."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True)
class Seed:
    """Edits, the guard that must fail on them, and what it must name. A .pxi edited is built anew."""

    name: str
    edits: tuple[Edit, ...]
    guard: tuple[str, ...]
    caught: tuple[str, ...]


def in_codec(function: str, *lines: str) -> tuple[Edit, ...]:
    """Edits that put another function in front of one of the codec's, in Python: nothing is built."""
    module = "\n".join(["from engine import _codec", "", "", f"def {function}(*args, **options):", *lines])
    line = "\n__all__ = ["
    return (
        Edit("engine/codec.py", line, f"\nfrom engine.seeded import {function}\n{line}"),
        Edit("engine/seeded.py", "", module + "\n"),
    )


_SEND_ONE = "        source = self.source\n        link = source.take()\n        outcome: "
_RAW_HEADERS = "    delivery.locate()\n    if not delivery._flags"
_PUBLISH = "        limit = self._options.max_message_size\n"

SEEDS = (
    Seed(
        "codec: headers are copied once more when written and when read, a body when read",
        (
            Edit(
                "engine/_codec/amqp_properties.pxi",
                "write_table(buffer, message._headers, 1)",
                "write_table(buffer, dict(message._headers), 1)",
            ),
            Edit(
                "engine/_codec/task_decode.pxi",
                _RAW_HEADERS,
                f"    delivery._raw = bytes(bytearray(delivery._raw))\n{_RAW_HEADERS}",
            ),
            Edit("engine/_codec/json.pxi", "_orjson_loads(data)", "_orjson_loads(bytes(bytearray(data)))"),
        ),
        INSTRUCTIONS,
        ("task to frames, full headers", "frames to task, lean headers", "JSON to value"),
    ),
    Seed(
        "worker: a request is made for each task, whether it looks at it or not",
        (Edit("engine/_work/run.pxi", "request = running.made", "request = running.get_request()"),),
        INSTRUCTIONS,
        ("a child's batch of 16 tasks",),
    ),
    Seed(
        "library: a call's arguments are encoded twice",
        in_codec(
            "encode_task_body",
            "    _codec.encode_task_body(*args)",
            "    return _codec.encode_task_body(*args)",
        ),
        INSTRUCTIONS,
        ("task to frames, lean headers",),
    ),
    Seed(
        "publish path: 100 turns of a loop for each call",
        (
            Edit(
                "engine/sender.py",
                _SEND_ONE,
                f"        for _ in range(100):\n            pass\n{_SEND_ONE}",
            ),
        ),
        INSTRUCTIONS,
        ("delay(), on the memory broker",),
    ),
    Seed(
        "codec: messages are written three times",
        in_codec(
            "encode_publish",
            "    _codec.encode_publish(*args, **options)",
            "    _codec.encode_publish(*args, **options)",
            "    return _codec.encode_publish(*args, **options)",
        ),
        ratios("codec_amqp or codec_path"),
        ("messages to frames, lean headers", "messages to frames, full headers"),
    ),
    Seed(
        "publish path: headers are sorted as text for each message",
        (
            Edit(
                "engine/transport/amqp_publish.py",
                _PUBLISH,
                f"{_PUBLISH}        for message in messages:\n            sorted(str(message.headers))\n",
            ),
        ),
        ratios("transport_amqp"),
        ("RabbitMQ: publish, unconfirmed",),
    ),
    Seed(
        "publish path: 5 ms asleep for each batch",
        (Edit("engine/transport/amqp_publish.py", _PUBLISH, f"{_PUBLISH}        time.sleep(0.005)\n"),),
        ratios("transport_amqp"),
        ("RabbitMQ: publish, unconfirmed, clock",),
    ),
)
