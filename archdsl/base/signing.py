"""The checksum in a generated file, by which an edited file is known."""

from __future__ import annotations

import hashlib
import re

UNSIGNED = "0" * 16
_CHECKSUM = re.compile(r"^(    checksum       )([0-9a-f]{16})$", re.MULTILINE)


def signed(text: str) -> str:
    """The text with the checksum of all the rest in its place."""
    return _CHECKSUM.sub(lambda m: m[1] + _digest(text), text, count=1)


def is_generated(text: str) -> bool:
    """Whether a text has a checksum, as generated files have."""
    return _CHECKSUM.search(text) is not None


def is_untouched(text: str) -> bool:
    """Whether a text is as it was generated."""
    found = _CHECKSUM.search(text)
    return found is not None and found[2] == _digest(_CHECKSUM.sub(lambda m: m[1] + UNSIGNED, text, count=1))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
