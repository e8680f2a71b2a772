"""What is kept between runs, in the user's cache folder: a convenience that may vanish at any time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from functools import cache
from pathlib import Path

from archdsl.base.version import __version__

MOST = 200
"""Objects kept at most."""


@cache
def cache_folder() -> Path | None:
    """The folder, which is the user's alone, or None where nothing can be written."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - may be no path at all
    folder = Path(home) / "archdsl"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
        str(folder).encode()
    except (OSError, UnicodeEncodeError):
        return None
    # What lies here is loaded, and loading can run code: nobody else may write it.
    mine = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o022)
    return folder if mine and os.access(folder, os.W_OK) else None


class Kept:
    """An object that was made from texts; other texts, another archdsl or another Python make another one."""

    def __init__(self, kind: str, *texts: str) -> None:
        key = "\0".join((kind, __version__, _code_stamp(), sys.version, *texts))
        folder = cache_folder()
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        self._path = folder / digest[:24] if folder else None

    def read(self) -> object:
        """The object, or None."""
        if self._path is None:
            return None
        try:
            return pickle.loads(self._path.read_bytes())
        except Exception:  # whatever is wrong with the file, the object can be made again
            return None

    def write(self, value: object) -> None:
        if self._path is None:
            return
        self._make_room(self._path.parent)
        part = self._path.with_suffix(f".{os.getpid()}")
        try:
            part.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
            part.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _make_room(self, folder: Path) -> None:
        """Drop the older half where there are too many."""
        with contextlib.suppress(OSError):
            kept = [p for p in folder.iterdir() if len(p.name.partition(".")[0]) == 24]
            if len(kept) >= MOST:
                for path in sorted(kept, key=lambda p: p.stat().st_mtime)[: MOST // 2]:
                    path.unlink(missing_ok=True)


@cache
def _code_stamp() -> str:
    """When the code that shapes what is kept was last changed: a checkout changes without a new version."""
    folder = Path(__file__).parent
    kept = ("frontend/syntax.py", "frontend/grammar.py", "frontend/parser.py", "base/source.py", "base/limits.py")
    return " ".join(str((folder / name).stat().st_mtime_ns) for name in kept)
