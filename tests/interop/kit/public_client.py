"""The public client of the API, ``ondewo-sip-client``, unchanged, in an environment and a process of its own.

Its package is called ``ondewo`` and brings dependencies of its own, so it is never installed beside the project. The
environment is made once and kept in ``.tox``.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.interop.kit.programs import missing

__all__ = ["DRIVER", "METHODS_DRIVER", "public_client_python"]

VERSION = "5.5.2"
DRIVER = Path(__file__).with_name("public_client_driver.py")
"""The program that drives the life cycle with it."""

METHODS_DRIVER = Path(__file__).with_name("public_client_methods.py")
"""The program that calls every method, with the blocking client or the asynchronous one."""

_CACHE = Path(__file__).parents[3] / ".tox"


def public_client_python() -> Path:
    """The interpreter of an environment that has the public client; skips or fails the test when there is none.

    Takes up to some minutes the first time.
    """
    folder = _CACHE / f"public-client-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "public-client.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            command = [str(python), "-m", "pip", "install", "--quiet", f"ondewo-sip-client=={VERSION}"]
            installed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            if installed.returncode != 0:
                missing(f"cannot install ondewo-sip-client {VERSION}: {installed.stderr.strip()[-500:]}")
            complete.touch()
    return python
