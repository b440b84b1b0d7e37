"""The tables of rules and complaints name tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = re.compile(r"(?P<path>\b[\w/]+\.py)?(?:::(?P<name>test_\w+))?")


def references(document: str) -> Iterator[tuple[str, str]]:
    """File and name (empty: the whole file) of each test in the last column of each table."""
    for line in (ROOT / "docs" / document).read_text().splitlines():
        if not line.startswith("| "):
            continue
        path = ""
        for found in REFERENCE.finditer(line.rstrip("| ").rpartition(" | ")[2]):
            path = found["path"] or path
            if (found["path"] or found["name"]) and not path.startswith("benchmarks/"):
                yield path, found["name"] or ""


@pytest.mark.parametrize("document", ["conformance.md", "complaints.md"])
def test_the_tests_that_a_document_names_exist(document: str) -> None:
    named = list(references(document))
    assert len(named) > 40
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (file := ROOT / "tests" / path).is_file() or not re.search(rf"def {name}\b", file.read_text())
    ]
    assert not missing
