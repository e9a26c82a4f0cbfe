"""The codec's bench reads what it wrote."""

from engine.bench.codec_cost import _message, as_delivered, time_codec
from engine.codec import Delivery, FrameDecoder, decode_task, encode_publish


def test_what_is_timed_is_a_whole_task() -> None:
    frames = as_delivered(encode_publish([_message("id-1", (2, 2), lean=True)]))
    [delivery] = FrameDecoder().feed(frames)
    assert isinstance(delivery, Delivery)
    task = decode_task(delivery)
    assert (task.task, task.id, list(task.args)) == ("bench.add", "id-1", [2, 2])


def test_both_ways_take_time() -> None:
    written_s, read_s = time_codec(100, (2, 2), lean=False)
    assert 0 < written_s < 1
    assert 0 < read_s < 1
