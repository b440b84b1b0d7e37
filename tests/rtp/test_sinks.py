"""Where audio goes."""

from __future__ import annotations

import numpy as np

from rtp.sinks import CallbackSink


def test_a_callback_gets_each_frame() -> None:
    got: list[int] = []
    sink = CallbackSink(lambda pcm: got.append(int(pcm[0])))
    for value in (1, 2):
        sink.write(np.full(160, value, np.int16))
    sink.close()
    assert got == [1, 2]
