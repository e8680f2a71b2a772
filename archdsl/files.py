"""Writing generated files: as a set, whole or not at all, and never over a person's edits."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from archdsl.base.signing import is_generated, is_untouched


class Refused(Exception):
    """A file cannot be written; the message says which and why."""


def write_all(files: dict[Path, str], force: bool) -> None:
    """Write every file or none: all are written beside their places first, then moved.

    Raises Refused if a file was edited (unless `force`) or a place cannot be written.
    """
    if not force:
        for path in files:
            _refuse_edited(path)
    partial: dict[Path, Path] = {}
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise Refused(f"{path} is a folder")
            part = path.with_name(f".{path.name}.{os.getpid()}.partial")
            partial[path] = part
            part.write_text(text, encoding="utf-8", newline="\n")
        for path, part in partial.items():
            part.replace(path)
    except OSError as problem:
        where = problem.filename or next(iter(files))
        raise Refused(f"cannot write {where}: {(problem.strerror or 'failed').lower()}") from None
    finally:
        for part in partial.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _refuse_edited(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise Refused(f"{path} is a folder") from None
    except NotADirectoryError as problem:
        raise Refused(f"cannot write {path}: {(problem.strerror or '').lower()}") from None
    except (OSError, UnicodeDecodeError):
        raise Refused(f"{path} is in the way, and is no file that archdsl wrote") from None
    if not is_generated(text):
        raise Refused(f"{path} is in the way, and is no file that archdsl wrote; `--force` overwrites it")
    if not is_untouched(text):
        raise Refused(f"{path} has been edited since it was generated; `--force` overwrites it")


def replace_text(path: Path, text: str) -> None:
    """Replace a file's text, whole or not at all. Raises Refused."""
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        if path.exists():
            part.chmod(path.stat().st_mode)
        part.replace(path)
    except OSError as problem:
        raise Refused(f"cannot write {path}: {(problem.strerror or 'failed').lower()}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
