"""What do live audio and recordings cost a call? CPU time of one process, driven by hand.

The streams of one engine talk to each other in pairs over the loopback, both ways, as in `rtp_cost.py`. In turn: files
that play; a program on each call that hears every frame and writes it back, at 8,000 and 16,000 Hz, in frames of 20 and
of 100 ms; files again, with every call recorded, mono and stereo, to the disk. Nobody waits for a clock: the ticks are
driven one behind the other, the loop runs between them until nothing is left to do, and what is measured is the CPU
time of the process, with the thread that writes the recordings. In real time, with what a far end sees of it:
`rtp_jitter.py --engine live` and `--engine recorded`.

How to read the table
  ms          milliseconds of CPU time for one second of one call; 1 is a thousandth of a core.
  us/frame    what is above the first row, in microseconds for each tick of one call.
  lost        frames that a program on a call did not get. With recordings: how many failed.
  seconds     length of the shortest recording, of those expected.
Compare rows of one run; no figure means anything alone.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import machine, print_table, raise_file_limit, run_benchmark, write_json
from rtp_senders import answer, endless_tone

from rtp.audio_stream import AudioStream
from rtp.engine import MediaEngine
from rtp.recording import Recording
from sipcore.tuning import tune_interpreter

if TYPE_CHECKING:
    from rtp.stream import RtpStream

HOST = "127.0.0.1"
PERIOD = 0.02
WARM_UP_TICKS = 25
KINDS = ("plays", "live 8000", "live 16000", "live 16000, 100 ms", "mono", "stereo")


async def measure(kind: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One row."""
    engine = MediaEngine(ports=(16384, 65535), rng=random.Random(1), capacity=options.calls)
    streams = [engine.open_stream(HOST) for _ in range(options.calls)]
    audios: list[AudioStream] = []
    recordings: list[Recording] = []
    tasks: list[asyncio.Task[None]] = []
    for number, stream in enumerate(streams):
        _connect(stream, streams[number ^ 1])
        if kind.startswith("live"):
            audio = AudioStream(
                rate=16000 if "16000" in kind else 8000, frame_ms=100 if "100 ms" in kind else 20, max_seconds=1
            )
            stream.converse(audio)
            audios.append(audio)
            tasks.append(asyncio.create_task(answer(audio)))
        else:
            stream.play(endless_tone(300 + 10 * (number % 10)))
        if kind in ("mono", "stereo"):
            recording = Recording(folder / f"{kind}-{number}.wav", stereo=kind == "stereo")
            stream.record(recording)
            recordings.append(recording)

    async def run(ticks: int) -> None:
        for _ in range(ticks):
            engine.tick(1, 0.0)
            for _ in range(3):
                await asyncio.sleep(0)

    await run(WARM_UP_TICKS)
    sets = []
    for _ in range(options.sets):
        begin = time.process_time()
        await run(options.ticks)
        sets.append(1000 * (time.process_time() - begin) / (options.ticks * PERIOD * options.calls))
    await engine.close()
    await asyncio.gather(*tasks)
    for recording in recordings:
        await recording.wait_closed()
    expected = (WARM_UP_TICKS + options.sets * options.ticks) * PERIOD
    return {
        "kind": kind,
        "calls": options.calls,
        "ms": min(sets),
        "lost": sum(audio.dropped for audio in audios) + sum(one.error is not None for one in recordings),
        "seconds": min((one.seconds for one in recordings), default=0.0),
        "expected": expected,
    }


def _connect(stream: RtpStream, far: RtpStream) -> None:
    stream.configure((HOST, far.local_port), codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"})


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=200, help="streams at once, an even number (default 200)")
    parser.add_argument("--ticks", type=int, default=50, help="ticks of a set (default 50: one second of calls)")
    parser.add_argument("--sets", type=int, default=5, help="sets; the best one counts (default 5)")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "out" / "live_audio.json")
    options = parser.parse_args()
    raise_file_limit(4 * options.calls + 100)
    tune_interpreter()
    facts = machine()
    print(f"{options.calls} calls, on {facts['cores']} x {facts['processor']}")
    with tempfile.TemporaryDirectory() as folder:
        results = [asyncio.run(measure(kind, options, Path(folder))) for kind in KINDS]
    rows = []
    for result in results:
        above = 1000 * (result["ms"] - results[0]["ms"]) * PERIOD
        length = f"{result['seconds']:.2f} of {result['expected']:.2f}" if result["seconds"] else "-"
        rows.append((result["kind"], f"{result['ms']:.2f}", f"{above:.0f}", str(result["lost"]), length))
    print_table(("every call", "ms", "us/frame", "lost", "seconds"), rows)
    write_json(options.json, {"machine": facts, "rows": results})
    print(f"written to {options.json.parent}")


if __name__ == "__main__":
    run_benchmark(main)
