"""`assert_never` of Python 3.11, for 3.10: a match that mypy proves complete."""

from __future__ import annotations

from typing import NoReturn


def assert_never(value: NoReturn) -> NoReturn:
    """Stands in the last case of a match; reached only if a case is missing."""
    raise AssertionError(f"unexpected {value!r}")
