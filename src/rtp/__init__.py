"""RTP on one clock: all streams of a process are rows of arrays."""
