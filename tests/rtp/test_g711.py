"""G.711 companding against ITU-T G.191 and three outside implementations (tests/vectors/g711/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtp.g711 import DECODE, ENCODE, SILENCE, Law, decode, encode

SAMPLES = np.arange(65536, dtype=np.uint16).view(np.int16)
OUTSIDE = np.load(Path(__file__).parent.parent / "vectors" / "g711" / "outside.npz")
PROGRAMS = ("spandsp", "libsndfile", "cpython")


def reference_mu_law(sample: int) -> int:
    """G.191 ``ulaw_compress``, sentence by sentence."""
    magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 0x1FFF)
    segment = 1
    while magnitude >> (5 + segment):
        segment += 1
    code = ((8 - segment) << 4) | (0xF - ((magnitude >> segment) & 0xF))
    return code | 0x80 if sample >= 0 else code


def reference_a_law(sample: int) -> int:
    """G.191 ``alaw_compress``, sentence by sentence."""
    code = (~sample if sample < 0 else sample) >> 4
    if code > 15:
        exponent = 1
        while code > 31:
            code >>= 1
            exponent += 1
        code = code - 16 + (exponent << 4)
    return (code | 0x80 if sample >= 0 else code) ^ 0x55


@pytest.mark.parametrize(("law", "reference"), [(Law.PCMU, reference_mu_law), (Law.PCMA, reference_a_law)])
def test_every_sample_encodes_as_in_g191(law: Law, reference: object) -> None:
    assert callable(reference)
    assert ENCODE[law].tolist() == [reference(sample) for sample in SAMPLES.tolist()]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("law", Law)
def test_every_code_decodes_as_outside(program: str, law: Law) -> None:
    assert np.array_equal(DECODE[law], OUTSIDE[f"{program}_{law.name.lower()}_decode"])


@pytest.mark.parametrize("program", ["spandsp", "cpython"])
def test_every_sample_encodes_to_a_law_as_outside(program: str) -> None:
    assert np.array_equal(ENCODE[Law.PCMA], OUTSIDE[f"{program}_pcma_encode"])


@pytest.mark.parametrize(
    ("program", "law", "count"),
    [
        ("spandsp", Law.PCMU, 127),
        ("libsndfile", Law.PCMU, 127),
        ("libsndfile", Law.PCMA, 127),
        ("cpython", Law.PCMU, 508),
    ],
)
def test_outside_encoders_differ_only_on_the_line_between_two_intervals(program: str, law: Law, count: int) -> None:
    """They differ in negative samples on a decision value (cpython: and the three above it), and never do better."""
    theirs = OUTSIDE[f"{program}_{law.name.lower()}_encode"]
    differing = np.flatnonzero(theirs != ENCODE[law])
    samples = SAMPLES[differing].astype(int)
    assert len(differing) == count
    lines = samples[samples % 4 == 0]
    assert len(lines) == 127
    assert set(samples.tolist()) <= {int(line) + above for line in lines for above in range(4)}
    our_error = np.abs(DECODE[law][ENCODE[law][differing]].astype(int) - samples)
    their_error = np.abs(DECODE[law][theirs[differing]].astype(int) - samples)
    assert (our_error <= their_error).all()
    below = ENCODE[law][(differing[samples % 4 == 0] - 1) & 0xFFFF]
    assert np.array_equal(below, theirs[differing[samples % 4 == 0]])


@pytest.mark.parametrize("law", Law)
def test_companding_a_decoded_code_changes_nothing(law: Law) -> None:
    codes = np.arange(256, dtype=np.uint8)
    again = encode(decode(codes, law), law)
    if law is Law.PCMU:  # the two zeroes of µ-law are one sample
        codes[0x7F] = 0xFF
    assert np.array_equal(again, codes)


@pytest.mark.parametrize("law", Law)
def test_silence_is_the_code_of_zero(law: Law) -> None:
    assert encode(np.zeros(1, np.int16), law)[0] == SILENCE[law]
    assert abs(int(decode(np.array([SILENCE[law]], np.uint8), law)[0])) <= 8


@pytest.mark.parametrize("law", Law)
def test_no_code_decodes_to_the_mark_of_a_missing_sample(law: Law) -> None:
    assert DECODE[law].min() > -32768
