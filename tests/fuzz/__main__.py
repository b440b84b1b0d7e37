"""Runs the fuzzer for as long as one likes.

    python -m tests.fuzz --seconds 3600 --seed 1

Episode after episode, each with a seed of its own: attackers against a stack with calls and registrations in virtual
time, then random datagrams against RTP streams. On a failure it prints what the last messages were, the very last in
hex and whole, and how to run that episode again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback

from tests.fuzz.runner import Failure, Runner


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="the run's seed (default: %(default)d)")
    parser.add_argument("--episode", type=int, help="run this one episode of the seed only")
    parser.add_argument("--steps", type=int, default=1500, help="messages of an episode (default: %(default)d)")
    arguments = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    runner = Runner(arguments.seed, steps=arguments.steps)
    started = time.monotonic()
    episode = arguments.episode or 0
    try:
        while arguments.episode is not None or time.monotonic() - started < arguments.seconds:
            runner.run(episode)
            print(
                f"{time.monotonic() - started:7.0f} s  episode {episode}  {runner.messages} messages  "
                f"{runner.datagrams} datagrams  {runner.growth_mib:+.1f} MiB",
                flush=True,
            )
            if arguments.episode is not None:
                break
            episode += 1
    except Failure as failure:
        traceback.print_exception(failure.__cause__)
        for transport, data in failure.recent:
            print(f"{transport} {len(data)} bytes {data[:100]!r}")
        if failure.recent:
            print(f"the last one: {failure.recent[-1][1].hex()}")
        print(
            f"seed {arguments.seed} episode {episode}; again: {parser.prog} --seed {arguments.seed}"
            f" --steps {arguments.steps} --episode {episode}"
        )
        return 1
    print(f"nothing found; the victim sent {dict(runner.kinds.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
