"""Writing generated files: as a set, whole or not at all, and never over a person's edits."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from archdsl.base.signing import is_generated, is_untouched


class Refused(Exception):
    """A file cannot be written; the message says which and why."""


def write_all(files: dict[Path, str], force: bool) -> None:
    """Write every file or none: all are written beside their places first, then moved.

    Raises Refused if a file was edited (unless `force`) or a place cannot be written.
    """
    texts = {_behind(path): text for path, text in files.items()}
    _check(texts, force)
    made: list[Path] = []
    partial: dict[Path, Path] = {}
    try:
        for path in texts:
            _make_folder(path.parent, made)
        with _locked(Path(os.path.commonpath([p.parent.absolute() for p in texts]))):
            _check(texts, force)  # somebody else may have written while this one waited
            for path, text in texts.items():
                _clear(path)
                partial[path] = _beside(path, "partial")
                _write(partial[path], text.encode(), path)
            _commit(partial)
        made.clear()
    except OSError as problem:
        where = problem.filename or next(iter(texts))
        raise Refused(f"cannot write {where}: {(problem.strerror or 'failed').lower()}") from None
    finally:
        for part in partial.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _check(paths: Iterable[Path], force: bool) -> None:
    for path in paths:
        if not force:
            _refuse_edited(path)
        _refuse_place(path)


def _refuse_place(path: Path) -> None:
    """Refuse a place where no file can be, or whose owner wants none to be written."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as problem:
        raise Refused(f"cannot write {path}: {(problem.strerror or 'failed').lower()}") from None
    if stat.S_ISDIR(mode):
        raise Refused(f"{path} is a folder")
    if not stat.S_ISREG(mode):
        raise Refused(f"{path} is not a regular file")
    if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(f"{path} is read-only")


def _behind(path: Path) -> Path:
    """The file that a link leads to, so that the link stays one. Raises Refused for one that leads nowhere."""
    if not path.is_symlink():
        return path
    if not path.exists():
        raise Refused(f"{path} is a link to nothing")
    return path.resolve()


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and remember which are new."""
    new = [f for f in (folder, *folder.parents) if not f.exists()]
    made += reversed(new)
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time writes into a folder. The process that moves the files holds the lock as well."""
    handle = None
    with contextlib.suppress(ImportError, OSError):  # where there are no such locks, or not on this file system
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def _write(part: Path, data: bytes, place: Path) -> None:
    """Write what will be moved to a place, with the permissions of the file that is there."""
    part.unlink(missing_ok=True)
    with part.open("xb") as file:  # never through a link that somebody has put there
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if place.exists():
        part.chmod(stat.S_IMODE(place.stat().st_mode))


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


def replace(path: Path, content: str | bytes) -> None:
    """Replace a file, whole or not at all; what is no file, as a pipe, is written to. Raises Refused."""
    path = _behind(path)
    data = content.encode() if isinstance(content, str) else content
    part = _beside(path, "partial")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        _refuse_place(path)
        _write(part, data, path)
        part.replace(path)
    except OSError as problem:
        raise Refused(f"cannot write {path}: {(problem.strerror or 'failed').lower()}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
