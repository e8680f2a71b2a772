"""Files: written as a set, whole or not at all, and never over what a person made."""

from __future__ import annotations

import errno
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import run, succeed

from archdsl import files
from archdsl.files import Refused, replace, write_all
from archdsl.frontend import grammar, oneline

ARCHDSL = (sys.executable, "-m", "archdsl")


def state(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too."""
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in found}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder with a network that was compiled before."""
    succeed(*ARCHDSL, "compile", "WRN(10, 1)", "-o", tmp_path / "out")
    return tmp_path / "out"


def new(folder: Path) -> dict[str, str]:
    """What compiling another network leaves in an empty folder."""
    succeed(*ARCHDSL, "compile", "WRN(16, 1)", "-o", folder)
    return state(folder)


def test_nothing_else_is_left(output: Path) -> None:
    assert list(state(output)) == ["model.py", "train.py"]


def test_an_edited_file_is_kept(output: Path) -> None:
    model = output / "model.py"
    model.write_text(model.read_text().replace("nn.Linear(", "nn.LazyLinear("))
    before = state(output)
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output)
    assert done.returncode == 1 and "model.py has been edited since it was generated; `--force`" in done.stderr
    assert state(output) == before
    assert run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output, "--force").returncode == 0
    assert "LazyLinear" not in (output / "model.py").read_text()


def test_a_file_of_somebody_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('mine')\n")
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", tmp_path)
    assert done.returncode == 1 and "train.py is in the way, and is no file that archdsl wrote" in done.stderr
    assert state(tmp_path) == {"train.py": "print('mine')\n"}


def test_a_place_that_is_a_folder(output: Path) -> None:
    (output / "train.py").unlink()
    (output / "train.py").mkdir()
    before = state(output)
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output, "--force")
    assert done.returncode == 1 and "train.py is a folder" in done.stderr and state(output) == before


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", tmp_path / "out")
    assert done.returncode == 1 and "cannot write" in done.stderr and state(tmp_path) == {"out": "mine"}


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(output: Path) -> None:
    before = state(output)
    output.chmod(0o500)
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output)
    output.chmod(0o700)
    assert done.returncode == 1 and "permission denied" in done.stderr and state(output) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_no_room_for_the_second_file(output: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(output)
    write = files._write

    def full(path: Path, text: bytes, place: Path) -> None:
        if "train" in path.name:
            write(path, text[:100], place)
            raise OSError(number, os.strerror(number), str(path))
        write(path, text, place)

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(Refused, match=os.strerror(number).lower()):
        write_all({output / "model.py": "a", output / "train.py": "b"}, force=True)
    assert state(output) == before


def test_the_second_file_cannot_be_moved(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first gets its old text back, and a file that was not there goes away."""
    before = state(output)
    replace = Path.replace

    def refusing(self: Path, target: Path) -> Path:
        if self.name.endswith("partial") and Path(target).name == "train.py":
            raise OSError(errno.EIO, "broken", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    with pytest.raises(Refused):
        write_all({output / "model.py": "a", output / "more.py": "b", output / "train.py": "c"}, force=True)
    assert state(output) == before


def test_several_networks_are_one_set(tmp_path: Path) -> None:
    (tmp_path / "wrn_16_2" / "train.py").mkdir(parents=True)
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "WRN(16, 2)", "-o", tmp_path)
    assert done.returncode == 1 and state(tmp_path) == {}


KILLED = """
import os, signal, sys
from archdsl import files
move = files._move
def killing(partial):
    os.kill(os.getppid(), signal.SIGKILL)
    move(partial)
files._move = killing
from archdsl.cli import main
sys.argv = ["archdsl", "compile", "WRN(16, 1)", "-o", sys.argv[1]]
main()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_between_two_files(output: Path, tmp_path: Path) -> None:
    """Once the first file may have been moved, the other follows, whatever happens to the command."""
    expected = new(tmp_path / "new")
    done = subprocess.run([sys.executable, "-c", KILLED, str(output)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while state(output) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(output) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_points(output: Path, tmp_path: Path) -> None:
    """Wholly the old output or wholly the new one; what is left beside it is gone after the next run."""
    old, expected = state(output), new(tmp_path / "new")
    began = time.monotonic()
    succeed(*ARCHDSL, "compile", "WRN(16, 1)", "-o", tmp_path / "timed")
    whole = time.monotonic() - began
    numbers = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(
            [*ARCHDSL, "compile", "WRN(16, 1)", "-o", output], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(whole * numbers.uniform(0.5, 1.1))
        process.kill()
        process.wait()
        time.sleep(0.05)
        found = {name: text for name, text in state(output).items() if not name.startswith(".")}
        assert found in (old, expected)
    succeed(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output)
    assert state(output) == expected


def test_what_a_running_command_has_beside_a_file_is_kept(output: Path) -> None:
    mine, gone = output / f".model.py.{os.getpid()}.partial", output / ".model.py.4194303999.partial"
    for path in (mine, gone):
        path.write_text("")
    succeed(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output)
    assert mine.exists() and not gone.exists()


# ---- the formatter's files


def test_a_formatted_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "net.arch"
    path.write_text("old")
    path.chmod(0o640)
    replace(path, "new\n")
    assert path.read_text() == "new\n" and path.stat().st_mode & 0o777 == 0o640


def test_links_stay_links(output: Path, tmp_path: Path) -> None:
    model = tmp_path / "elsewhere.py"
    (output / "model.py").rename(model)
    (output / "model.py").symlink_to(model)
    succeed(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output)
    assert (output / "model.py").is_symlink() and model.read_text() == new(tmp_path / "new")["model.py"]
    spec = tmp_path / "spec.arch"
    spec.write_text("WRN( 16,1 )")
    (tmp_path / "link.arch").symlink_to(spec)
    succeed(*ARCHDSL, "fmt", tmp_path / "link.arch")
    assert (tmp_path / "link.arch").is_symlink() and spec.read_text() == "WRN(16, 1)\n"


def test_permissions_are_kept(output: Path) -> None:
    (output / "train.py").chmod(0o750)
    succeed(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output)
    assert (output / "train.py").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_read_only_is_not_written(output: Path, force: tuple[str, ...]) -> None:
    (output / "train.py").chmod(0o444)
    before = state(output)
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", output, *force)
    assert done.returncode == 1 and "train.py is read-only" in done.stderr and state(output) == before
    spec = output.parent / "spec.arch"
    spec.write_text("WRN( 16,1 )")
    spec.chmod(0o444)
    done = run(*ARCHDSL, "fmt", spec)
    assert done.returncode == 1 and "spec.arch is read-only" in done.stderr and spec.read_text() == "WRN( 16,1 )"


def test_a_link_to_nothing_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.py").symlink_to(tmp_path / "missing" / "train.py")
    (tmp_path / "out" / "model.py").symlink_to("model.py")
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", tmp_path / "out", "--force")
    assert done.returncode == 1 and "is a link to nothing" in done.stderr
    assert (tmp_path / "out" / "train.py").is_symlink() and not (tmp_path / "missing").exists()


def test_nobody_leads_a_file_elsewhere(tmp_path: Path) -> None:
    """Not through a link under the name that the new file has until it is moved."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "spec.arch"
    files._beside(path, "partial").symlink_to(victim)
    replace(path, "new\n")
    assert victim.read_text() == "mine" and path.read_text() == "new\n" and not path.is_symlink()


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen([*ARCHDSL, "draw", "WRN(10, 1)", "--format", "dot", "-o", str(tmp_path / "pipe")]):
        assert (tmp_path / "pipe").read_text().startswith("digraph network {")
    assert (tmp_path / "pipe").is_fifo()


def test_two_commands_write_one_after_the_other(tmp_path: Path) -> None:
    """Whatever is last is there as a whole."""
    sweeps = [f"net a = WRN(10, k, dropout={p}) for k in [{', '.join(map(str, range(1, 30)))}]" for p in (0.1, 0.2)]
    for spec in sweeps:
        (tmp_path / f"s{sweeps.index(spec)}.arch").write_text(f"{spec}\n")
    commands = [[*ARCHDSL, "compile", str(tmp_path / f"s{i}.arch"), "-o", str(tmp_path / "out")] for i in (0, 1)]
    for _ in range(3):
        started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
        assert [process.wait() for process in started] == [0, 0]
        written = [text for name, text in state(tmp_path / "out").items() if name.endswith("model.py")]
        assert len(written) == 29
        assert len({"nn.Dropout(0.1)" in text for text in written}) == 1


def test_nobody_writes_into_a_folder_that_another_writes_into(tmp_path: Path) -> None:
    with files._locked(tmp_path):
        other = threading.Thread(target=write_all, args=({tmp_path / "model.py": "a"}, True))
        other.start()
        other.join(0.5)
        assert other.is_alive() and not list(tmp_path.iterdir())
    other.join()
    assert state(tmp_path) == {"model.py": "a"}


def test_no_folder_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    done = run(*ARCHDSL, "compile", "WRN(16, 1)", "-o", tmp_path / "a" / "b" / ("c" * 300))
    assert done.returncode == 1 and not (tmp_path / "a").exists()


def test_a_cache_that_others_can_write_is_not_read(tmp_path: Path) -> None:
    """What is kept there is unpickled, which can run code."""
    spec = tmp_path / "spec.arch"
    spec.write_text("net mine = WRN(16, 1)\n")
    (tmp_path / "archdsl").mkdir(mode=0o700)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([*ARCHDSL, "params", str(spec)], env=environment, check=True, stdout=subprocess.DEVNULL)
    kept = [p for p in (tmp_path / "archdsl").iterdir() if len(p.name) == 24]
    assert kept

    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    for path in kept:
        path.write_bytes(pickle.dumps(Planted()))
    (tmp_path / "archdsl").chmod(0o777)
    done = subprocess.run([*ARCHDSL, "params", str(spec)], env=environment, capture_output=True, encoding="utf-8")
    assert "175,066" in done.stdout and not (tmp_path / "ran").exists()


def test_fmt_diff(tmp_path: Path) -> None:
    (tmp_path / "a.arch").write_text("net a = WRN(28,10)\n")
    (tmp_path / "b.arch").write_text("net b = WRN(28, 10)\n")
    done = run(*ARCHDSL, "fmt", "--diff", "a.arch", "b.arch", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.splitlines() == [
        "--- a.arch",
        "+++ a.arch, formatted",
        "@@ -1 +1 @@",
        "-net a = WRN(28,10)",
        "+net a = WRN(28, 10)",
    ]
    assert (tmp_path / "a.arch").read_text() == "net a = WRN(28,10)\n"
    assert run(*ARCHDSL, "fmt", "--diff", "b.arch", cwd=tmp_path).returncode == 0


def test_fmt_keeps_lines_apart_that_begin_with_a_sign() -> None:
    """In a line of its own it would go on with the line before."""
    branches = ["Conv(8, 3, dilation=2)", "(-in -> Conv(8, 3, padding=1))", "Conv(8, 3, dilation=3, padding=3)"]
    spec = f"net a on digits {{ let b = in -> ReLU; (-b) }}\nsum {{ {', '.join(branches)}, (-in) -> Conv(8, 3) }}"
    done = subprocess.run([*ARCHDSL, "fmt", "-"], input=spec, capture_output=True, encoding="utf-8")
    lines = [f"  {branch}\n" for branch in (*branches, "(-in -> Conv(8, 3))")]
    assert done.stdout == f"net a on digits {{\n  let b = in -> ReLU\n  (-b)\n}}\n\nsum {{\n{''.join(lines)}}}\n"


def test_fmt_keeps_brackets_that_say_something() -> None:
    spec = "net net on digits { let from = in -> ReLU; (from) }\n\n(net) -> ReLU\n\n(conv: Conv)(32, 3)\n\n(4)x[k=3]\n"
    done = subprocess.run([*ARCHDSL, "fmt", "-"], input=spec, capture_output=True, encoding="utf-8")
    body = "net net on digits {\n  let from = in -> ReLU\n  (from)\n}"
    weighed = "net a(w) on digits {\n  aux (w[0]): Flatten -> Linear(classes)\n  Flatten -> Linear(classes)\n}\n"
    again = subprocess.run([*ARCHDSL, "fmt", "-"], input=weighed, capture_output=True, encoding="utf-8")
    assert again.stdout == weighed
    assert done.stdout == f"{body}\n\n(net -> ReLU)\n\n(conv: Conv)(32, 3)\n\n(4)x[k=3]\n"
    assert {w.upper() for w in oneline._BEGINNERS} == grammar._BEGINNERS - {"IMPORT"}


def test_fmt_of_standard_input() -> None:
    command = [*ARCHDSL, "fmt", "-"]
    done = subprocess.run(command, input="net a = WRN(28,10)  # wide\r\n", capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, "net a = WRN(28, 10)  # wide\n")
    wrong = subprocess.run(command, input=b"net a = WRN(28\xff", capture_output=True)
    assert wrong.returncode == 1 and b"<stdin> is not UTF-8 text" in wrong.stderr


def test_fmt_writes_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.arch").write_text("net a = WRN(28,10)\n")
    (tmp_path / "b.arch").write_text("net b = WRN(28,10\n")
    done = run(*ARCHDSL, "fmt", "a.arch", "b.arch", cwd=tmp_path)
    assert done.returncode == 1 and "never closed" in done.stderr
    assert (tmp_path / "a.arch").read_text() == "net a = WRN(28,10)\n"
