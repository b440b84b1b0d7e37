"""Write the oldest versions that pyproject.toml promises to work with, as a requirements file.

python .ci/lowest.py FILE
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest() -> list[str]:
    """One requirement a line, ``>=`` turned into ``==``: what the library, the server and the tests need."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [requirement.replace(">=", "==", 1) for requirement in wanted]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("\n".join(lowest()) + "\n")
