"""Makes outside.npz: what other people's G.711 does with every sample and every code.

Run it where libspandsp and libsndfile are installed and Python still has audioop (3.11, 3.12):

    python tests/vectors/g711/make.py
"""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = np.arange(65536, dtype=np.uint16).view(np.int16)
CODES = np.arange(256, dtype=np.uint8)
BIT_RATE = 64000


def spandsp(law: int) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Law 0 is A-law, 1 is µ-law."""
    library = ctypes.CDLL(ctypes.util.find_library("spandsp") or "libspandsp.so.2")
    library.g711_init.restype = ctypes.c_void_p
    pointers = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    library.g711_encode.argtypes = library.g711_decode.argtypes = pointers
    state = library.g711_init(None, law, BIT_RATE)
    encoded = np.zeros(len(SAMPLES), np.uint8)
    decoded = np.zeros(len(CODES), np.int16)
    library.g711_encode(state, encoded.ctypes.data, SAMPLES.ctypes.data, len(SAMPLES))
    library.g711_decode(state, decoded.ctypes.data, CODES.ctypes.data, len(CODES))
    return encoded, decoded


def sndfile(subtype: str) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Subtype ULAW or ALAW."""
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, 8000, format="RAW", subtype=subtype)
    decoded, _ = soundfile.read(
        io.BytesIO(CODES.tobytes()), samplerate=8000, channels=1, format="RAW", subtype=subtype, dtype="int16"
    )
    return np.frombuffer(file.getvalue(), np.uint8), decoded


def cpython(name: str) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Name ulaw or alaw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop: Any = __import__("audioop")
    encoded = np.frombuffer(getattr(audioop, f"lin2{name}")(SAMPLES.tobytes(), 2), np.uint8)
    decoded = np.frombuffer(getattr(audioop, f"{name}2lin")(CODES.tobytes(), 2), np.int16)
    return encoded, decoded


def main() -> None:
    """Writes the file beside this one."""
    results = {
        "spandsp_pcma": spandsp(0),
        "spandsp_pcmu": spandsp(1),
        "libsndfile_pcma": sndfile("ALAW"),
        "libsndfile_pcmu": sndfile("ULAW"),
        "cpython_pcma": cpython("alaw"),
        "cpython_pcmu": cpython("ulaw"),
    }
    arrays: dict[str, Any] = {}
    for name, (encoded, decoded) in results.items():
        arrays[f"{name}_encode"] = encoded
        arrays[f"{name}_decode"] = decoded
    np.savez_compressed(Path(__file__).with_name("outside.npz"), **arrays)


if __name__ == "__main__":
    main()
