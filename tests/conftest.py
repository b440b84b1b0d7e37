"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

if not os.environ.get("CI"):  # there hypothesis has a profile of its own
    # How long an example takes is the machine's matter: no test asserts a time.
    settings.register_profile("sipcore", deadline=None)
    settings.load_profile("sipcore")
