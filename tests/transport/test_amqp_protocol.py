"""The state machine alone: a scripted broker's bytes in, in every chunking, and what comes of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from engine.codec import PROTOCOL_HEADER, Delivery, FrameDecoder, Method, encode_method, encode_publish
from engine.errors import AccessRefused, ConnectionFailed, ConnectionLost
from engine.transport import TransportOptions
from engine.transport import amqp_methods as methods
from engine.transport.amqp_confirms import Batch
from engine.transport.amqp_endpoint import parse_endpoint
from engine.transport.amqp_protocol import AmqpProtocol
from engine.transport.amqp_state import ChannelClosed, ConsumerCancelled, State
from tests.transport.amqp_support import text

START = encode_method(0, 10, 10, (0, 9, {"product": "RabbitMQ"}, "PLAIN AMQPLAIN", "en_US"))
TUNE = encode_method(0, 10, 30, (2047, 131072, 60))
OPEN_OK = encode_method(0, 10, 41, ("",))


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return bytes([kind]) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"


def _short(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def _deliver(tag: int, body: bytes, consumer: str = "engine.1") -> bytes:
    start = b"\x00\x3c\x00\x3c" + _short(consumer) + tag.to_bytes(8, "big")
    payload = start + b"\x00" + _short("") + _short("q")
    return _frame(1, 1, payload) + _content(body)


def _content(body: bytes) -> bytes:
    header = _frame(2, 1, b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + b"\x00\x00")
    return header + (_frame(3, 1, body) if body else b"")


def _protocol(url: str = "amqp://me:secret@broker/vhost", **options: Any) -> AmqpProtocol:
    endpoint = parse_endpoint(url, TransportOptions(**options))
    return AmqpProtocol(endpoint, max_message_size=1 << 20, epoch=3)


def _open(**options: Any) -> AmqpProtocol:
    protocol = _protocol(**options)
    for data in (START, TUNE, OPEN_OK):
        protocol.receive_data(data)
    assert protocol.state is State.OPEN
    protocol.data_to_send()
    return protocol


def _sent(protocol: AmqpProtocol) -> list[Method]:
    items = FrameDecoder(0).feed(protocol.data_to_send())
    assert all(isinstance(item, Method) for item in items)
    return items  # type: ignore[return-value]


def test_the_handshake() -> None:
    protocol = _protocol(heartbeat=20, client_name="me at work")
    assert protocol.data_to_send() == PROTOCOL_HEADER
    protocol.receive_data(START)
    [start_ok] = _sent(protocol)
    properties, mechanism, response, _ = start_ok.args
    assert properties["connection_name"] == "me at work"
    assert properties["capabilities"]["consumer_cancel_notify"] is True
    assert (mechanism, response) == ("PLAIN", "\0me\0secret")
    protocol.receive_data(TUNE)
    tune_ok, opening = _sent(protocol)
    assert tune_ok.args == (2047, 131072, 20)
    assert opening.args[0] == "vhost"
    protocol.receive_data(OPEN_OK)
    assert protocol.state is State.OPEN
    assert protocol.data_to_send() == b""


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [(60, 10, 10), (5, 60, 5), (0, 60, 0), (30, 0, 30), (0, 0, 0), (0.5, 60, 1)]
)
def test_heartbeats(ours: float, theirs: int, agreed: int) -> None:
    protocol = _protocol(heartbeat=ours)
    protocol.receive_data(START)
    protocol.receive_data(encode_method(0, 10, 30, (2047, 131072, theirs)))
    assert protocol.heartbeat_s == agreed


def test_the_smaller_frame_wins() -> None:
    protocol = _protocol()
    protocol.receive_data(START)
    protocol.receive_data(encode_method(0, 10, 30, (0, 4096, 60)))
    assert protocol.frame_max == 4096
    assert protocol.decoder.frame_max == 4096


def test_external_login() -> None:
    protocol = _protocol("amqp://broker?login_method=external")
    protocol.data_to_send()
    protocol.receive_data(encode_method(0, 10, 10, (0, 9, {}, "EXTERNAL PLAIN", "en_US")))
    [start_ok] = _sent(protocol)
    assert start_ok.args[1:3] == ("EXTERNAL", "")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 64, 1000])
def test_any_chunking_gives_the_same(size: int) -> None:
    stream = START + TUNE + OPEN_OK
    stream += b"".join(_deliver(tag, b"body %d" % tag) for tag in range(1, 20))
    stream += encode_method(1, 60, 30, ("engine.1", False)) + _deliver(20, b"")
    protocol = _protocol()
    for start in range(0, len(stream), size):
        protocol.receive_data(memoryview(stream)[start : start + size])
    assert [delivery.tag for delivery in protocol.deliveries] == list(range(1, 21))
    assert protocol.deliveries[4].body == b"body 5"
    assert {delivery.epoch for delivery in protocol.deliveries} == {3}
    assert protocol.events_received() == [ConsumerCancelled("engine.1")]
    assert protocol.events_received() == []


def test_a_channel_closed_by_the_broker() -> None:
    protocol = _open()
    protocol.open_channel(1)
    channel = protocol.channels[1]
    protocol.data_to_send()
    protocol.receive_data(encode_method(1, 20, 11, ("",)))
    protocol.receive_data(encode_method(1, 20, 40, (404, "NOT_FOUND - no queue 'q'", 60, 20)))
    [close_ok] = _sent(protocol)
    assert (close_ok.class_id, close_ok.method_id) == methods.CHANNEL_CLOSE_OK
    closed = ChannelClosed(1, 404, "NOT_FOUND - no queue 'q'", 60, 20)
    assert channel.closed == closed
    assert protocol.events_received() == [closed]
    assert 1 not in protocol.channels
    assert protocol.state is State.OPEN


def test_confirms_reach_their_batch() -> None:
    protocol = _open()
    assert protocol.open_channel(1, confirm=True) == 2
    batch = Batch([text(body, "q") for body in "abc"])
    protocol.data_to_send()
    protocol.publish(1, batch, 0, 3, mandatory=True)
    assert protocol.data_to_send() == encode_publish(batch.messages, 1, 131072, True)
    returned = b"\x00\x3c\x00\x32" + (312).to_bytes(2, "big") + _short("NO_ROUTE") + _short("") + _short("q")
    protocol.receive_data(_frame(1, 1, returned) + _content(b"b"))
    protocol.receive_data(encode_method(1, 60, 80, (2, True)) + encode_method(1, 60, 120, (3, False, False)))
    assert batch.pending == 0
    assert batch.outcomes[0] is None
    assert "routing key 'q'" in str(batch.outcomes[1])
    assert "refused" in str(batch.outcomes[2])


def test_an_answer_to_get_is_no_delivery() -> None:
    protocol = _open()
    protocol.open_channel(1)
    protocol.get(1, "q")
    payload = b"\x00\x3c\x00\x47" + (9).to_bytes(8, "big") + b"\x01" + _short("") + _short("q") + bytes(4)
    protocol.receive_data(_frame(1, 1, payload) + _content(b"got"))
    assert not protocol.deliveries
    reply = protocol.channels[1].replies[-1]
    assert isinstance(reply, Delivery)
    assert (reply.tag, reply.body, reply.redelivered) == (9, b"got", True)


def test_blocked_and_unblocked() -> None:
    protocol = _open()
    protocol.receive_data(encode_method(0, 10, 60, ("low on memory",)))
    assert protocol.blocked == "low on memory"
    protocol.receive_data(encode_method(0, 10, 61, ()))
    assert protocol.blocked is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [(403, AccessRefused), (530, AccessRefused), (320, ConnectionLost), (541, ConnectionLost)],
)
def test_the_broker_ends_it(code: int, kind: type[Exception]) -> None:
    protocol = _open()
    protocol.receive_data(encode_method(0, 10, 50, (code, "a reason", 0, 0)))
    assert type(protocol.error) is kind
    assert "a reason" in str(protocol.error)
    assert "secret" not in str(protocol.error)
    [close_ok] = _sent(protocol)
    assert (close_ok.class_id, close_ok.method_id) == methods.CONNECTION_CLOSE_OK
    assert protocol.state is State.CLOSED


def test_an_orderly_end() -> None:
    protocol = _open()
    protocol.close()
    assert _sent(protocol)[0].args[0] == 200
    protocol.receive_data(encode_method(0, 10, 51, ()))
    assert (protocol.state, protocol.error) == (State.CLOSED, None)
    protocol.receive_data(b"whatever follows")
    protocol.receive_eof()
    assert protocol.error is None


@pytest.mark.parametrize(
    ("received", "kind"),
    [
        (b"", ConnectionFailed),
        (START, AccessRefused),
        (START + TUNE, AccessRefused),
        (START + TUNE + OPEN_OK, ConnectionLost),
    ],
)
def test_the_end_of_the_stream(received: bytes, kind: type[Exception]) -> None:
    protocol = _protocol()
    protocol.receive_data(received)
    protocol.receive_eof()
    assert type(protocol.error) is kind
    assert "broker:5672" in str(protocol.error)


def test_garbage_ends_it_without_an_exception() -> None:
    protocol = _open()
    protocol.receive_data(b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x99\xce")
    assert isinstance(protocol.error, ConnectionLost)
    assert protocol.state is State.CLOSED


def test_flow_is_answered() -> None:
    protocol = _open()
    protocol.open_channel(1)
    protocol.data_to_send()
    protocol.receive_data(encode_method(1, 20, 20, (False,)))
    [flow_ok] = _sent(protocol)
    assert (flow_ok.class_id, flow_ok.method_id, flow_ok.args) == (*methods.CHANNEL_FLOW_OK, (False,))


def test_the_log_holds_signs_and_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="engine.transport.amqp"):
        protocol = _open()
        protocol.open_channel(1, confirm=True)
        protocol.publish(1, Batch([text("canary body", "q")]), 0, 1, mandatory=True)
        protocol.receive_data(_deliver(1, b"canary body"))
        protocol.receive_data(encode_method(1, 20, 40, (404, "NOT_FOUND", 60, 20)))
    assert {record.getMessage()[0] for record in caplog.records} == {"<", ">", "=", "!"}
    assert "canary" not in caplog.text
    assert "secret" not in caplog.text
