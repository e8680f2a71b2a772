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
            _clear(path)
            partial[path] = _beside(path, "partial")
            _write(partial[path], text)
        _commit(partial)
    except OSError as problem:
        where = problem.filename or next(iter(files))
        raise Refused(f"cannot write {where}: {(problem.strerror or 'failed').lower()}") from None
    finally:
        for part in partial.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _clear(path: Path) -> None:
    """Remove what a run that was killed has left beside a file."""
    for left in [*path.parent.glob(f".{path.name}.*.partial"), *path.parent.glob(f".{path.name}.*.old")]:
        number = left.name.split(".")[-2]
        if number.isdigit() and hasattr(os, "fork"):
            with contextlib.suppress(PermissionError):  # another user's process
                try:
                    os.kill(int(number), 0)
                except (ProcessLookupError, OverflowError):
                    left.unlink(missing_ok=True)


def _commit(partial: dict[Path, Path]) -> None:
    """Move the new files to their places.

    No system call moves several files at once, so a process of its own does it: whatever ends this one, a signal to the
    whole group too, the other goes on to the last file.
    """
    if not hasattr(os, "fork"):
        _move(partial)
        return
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            _move(partial)
            status = 0
        except OSError as problem:
            status = problem.errno or 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(abs(status), os.strerror(abs(status)), str(next(iter(partial))))


def _move(partial: dict[Path, Path]) -> None:
    """Move the new files to their places. Where one cannot be moved, those before it get their old files back."""
    done: list[tuple[Path, Path | None]] = []
    try:
        for path, part in partial.items():
            old = _beside(path, "old") if path.exists() else None
            if old:
                os.link(path, old)
            done.append((path, old))
            part.replace(path)
    except OSError:
        for path, old in reversed(done):
            if old:
                old.replace(path)
            else:
                path.unlink(missing_ok=True)
        raise
    finally:
        for _, old in done:
            if old:
                old.unlink(missing_ok=True)


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
    part = _beside(path, "partial")
    try:
        _write(part, text)
        if path.exists():
            part.chmod(path.stat().st_mode)
        part.replace(path)
    except OSError as problem:
        raise Refused(f"cannot write {path}: {(problem.strerror or 'failed').lower()}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
