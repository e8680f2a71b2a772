"""The generated train.py: it survives what happens to long runs, goes on exactly, and says what is wrong."""

from __future__ import annotations

import csv
import json
import math
import random
import resource
import signal
import subprocess
import sys
import time
import types
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SPECS, network_of, run, specs_in, succeed

from archdsl.core.recipe import untrainable
from archdsl.driver import load

SPEC = """
net small on digits {
  Conv(8, 3, 2) -> BatchNorm -> ReLU -> Dropout(0.1) -> GlobalAvgPool -> Linear(classes)
  train { epochs 4; batch_size 100; crop_padding 1 }
}
"""
EVERY = "--save-every=4"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def write(folder: Path, spec: str) -> Path:
    """model.py and train.py of a spec; the path of train.py."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.arch").write_text(spec, encoding="utf-8")
    succeed(sys.executable, "-m", "archdsl", "compile", folder / "spec.arch", "-o", folder)
    return folder / "train.py"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("training"), SPEC)


@pytest.fixture(scope="module")
def whole(script: Path) -> Path:
    """The directory of an undisturbed run."""
    folder = script.parent / "whole"
    succeed(sys.executable, script, "--run-dir", folder, EVERY)
    return folder


def metrics(folder: Path) -> list[list[str]]:
    """All columns but the last two, which tell of time."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [row[:-2] for row in csv.reader(file)]


def checkpoint(folder: Path, name: str = "checkpoint.pt") -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / name, weights_only=True)
    return state


def assert_same(one: Path, other: Path) -> None:
    """Bitwise the same weights, optimiser, random states and metrics."""
    a, b = checkpoint(one), checkpoint(other)
    torch.testing.assert_close(a["model"], b["model"], rtol=0, atol=0)
    torch.testing.assert_close(a["optimizer"], b["optimizer"], rtol=0, atol=0)
    torch.testing.assert_close(a["processes"], b["processes"], rtol=0, atol=0)
    assert metrics(one) == metrics(other)


def disturb(command: list[str | Path], number: int, moment: float) -> int:
    """Start a run, and send it a signal a while after it has begun to train; its exit status."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    for line in process.stdout:
        if "seed" in line:
            break
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    process.communicate()
    return process.returncode


def test_killed_ten_times(script: Path, whole: Path, tmp_path: Path) -> None:
    """Killed at random moments and resumed each time, a run ends as if nothing had happened."""
    moments = random.Random(0)
    killed = 0
    for _ in range(10):
        command = [sys.executable, script, "--run-dir", tmp_path, EVERY, "--resume"]
        killed += disturb(command, signal.SIGKILL, moments.uniform(0, 0.25)) == -signal.SIGKILL
    succeed(sys.executable, script, "--run-dir", tmp_path, EVERY, "--resume")
    assert killed >= 3
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop(script: Path, whole: Path, tmp_path: Path, number: int) -> None:
    """A signal makes a checkpoint, and an exit status that says so."""
    status = disturb([sys.executable, script, "--run-dir", tmp_path, EVERY], number, 0.05)
    assert status in (128 + number, 0)
    succeed(sys.executable, script, "--run-dir", tmp_path, EVERY, "--resume")
    assert_same(tmp_path, whole)
    # A run that cannot have ended by itself.
    status = disturb([sys.executable, script, "--run-dir", tmp_path / "long", "--epochs=9999"], number, 0.3)
    assert status == 128 + number
    assert checkpoint(tmp_path / "long")["epoch"] < 9999


def test_two_processes_go_on(script: Path, tmp_path: Path) -> None:
    """A run of two processes, killed after its first checkpoint, goes on exactly."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = (EVERY, "--epochs=20")
    succeed(*TORCHRUN, script, "--run-dir", whole, *options)
    command = [str(c) for c in (*TORCHRUN, script, "--run-dir", parts, *options)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (parts / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    subprocess.run(["pkill", "-9", "-f", str(parts)], check=False)
    process.wait()
    assert checkpoint(parts)["epoch"] < 20
    succeed(*command, "--resume")
    assert_same(parts, whole)
    assert not any(name.startswith(("module.", "_orig_mod.")) for name in checkpoint(whole)["model"])


# Ends by `os._exit`, as a thread of gloo can abort a process that is torn down (pytorch/pytorch 190489).
GRADIENTS = """
import os
import sys
import torch

torch.set_default_dtype(torch.float64)
sys.path.insert(0, sys.argv.pop(1))
out = sys.argv.pop(1)
import train

args = train.options()
device = train.start(args)
data = train.Data(*(t.double() if t.is_floating_point() else t for t in train.load_data(args, device)))
run = train.Run(args, device, data)
run.runner.train = lambda mode=True: torch.nn.Module.train(run.runner, False)


def stop():
    if train.RANK == 0:
        torch.save([p.grad for p in run.model.parameters()], out)
    if train.DISTRIBUTED:
        train.dist.barrier()  # no process leaves while another still listens
    os._exit(0)


run.optimizer.step = stop
run.train()
"""


def test_half_the_batch_each_gives_the_same_gradients(tmp_path: Path) -> None:
    script = write(tmp_path / "net", SPEC.replace("crop_padding 1", "crop_padding 0"))
    driver = tmp_path / "driver.py"
    driver.write_text(GRADIENTS)
    arguments = (driver, script.parent)
    rest = ("--run-dir", tmp_path / "run", "--batch-size=99")  # 50 and 49
    succeed(sys.executable, *arguments, tmp_path / "one.pt", *rest)
    succeed(*TORCHRUN, *arguments, tmp_path / "two.pt", *rest)
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    assert any(g.abs().max() > 1e-3 for g in one)
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_each_test_image_counts_once(script: Path, tmp_path: Path) -> None:
    """360 test images over two processes: the error is a multiple of 1 / 360."""
    succeed(*TORCHRUN, script, "--run-dir", tmp_path, "--epochs=1")
    error = float(metrics(tmp_path)[1][3])
    assert error * 360 / 100 == pytest.approx(round(error * 360 / 100), abs=1e-2)


# ---- what goes wrong


def test_a_broken_checkpoint(script: Path, whole: Path, tmp_path: Path) -> None:
    """The one before it serves; without that, nothing is lost."""
    for name in ("checkpoint.pt", "checkpoint.previous.pt", "metrics.csv"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    good = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(good[: len(good) // 2])
    text = succeed(sys.executable, script, "--run-dir", tmp_path, EVERY, "--resume")
    assert "cannot read" in text and "going on with epoch 4" in text
    assert_same(tmp_path, whole)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (tmp_path / name).write_bytes(b"no checkpoint")
    before = (tmp_path / "metrics.csv").read_bytes()
    done = run(sys.executable, script, "--run-dir", tmp_path, "--resume")
    assert done.returncode == 1 and "can be read" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_the_checkpoint_before_stays_good(script: Path, whole: Path, tmp_path: Path) -> None:
    """A broken checkpoint never takes the place of the good one before it; an empty file is broken too."""
    for name in ("checkpoint.previous.pt", "metrics.csv"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    before = (tmp_path / "checkpoint.previous.pt").read_bytes()
    succeed(sys.executable, script, "--run-dir", tmp_path, "--resume", "--epochs=4", "--save-every=1000")
    assert (tmp_path / "checkpoint.previous.pt").read_bytes() == before
    assert checkpoint(tmp_path)["epoch"] == 5


def test_processes_share_a_run(script: Path, tmp_path: Path) -> None:
    """Processes that see different checkpoints do not train on."""
    wrapper = tmp_path / "apart.py"
    wrapper.write_text(
        "import os, sys, runpy\n"
        f"sys.path.insert(0, {str(script.parent)!r})\n"
        f"sys.argv += ['--run-dir', {str(tmp_path)!r} + '/' + os.environ['RANK']]\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    succeed(*TORCHRUN, wrapper, "--epochs=1")
    done = run(*TORCHRUN, wrapper, "--epochs=2", "--resume")
    assert done.returncode != 0 and "share --run-dir" in done.stderr


def test_going_on_keeps_the_number_of_epochs(script: Path, tmp_path: Path) -> None:
    succeed(sys.executable, script, "--run-dir", tmp_path, "--epochs=2")
    before = metrics(tmp_path)
    text = succeed(sys.executable, script, "--run-dir", tmp_path, "--resume")
    assert metrics(tmp_path) == before and f"test error {float(before[-1][3]):.2f}%" in text


def test_a_new_run_puts_the_old_one_aside(script: Path, tmp_path: Path) -> None:
    for _ in range(2):
        succeed(sys.executable, script, "--run-dir", tmp_path, "--epochs=1")
    assert len(list(tmp_path.glob("*.checkpoint.pt"))) == 1
    (tmp_path / "metrics.csv").write_bytes(b"\n\xff\n" + (tmp_path / "metrics.csv").read_bytes())
    succeed(sys.executable, script, "--run-dir", tmp_path, "--epochs=2", "--resume")
    assert [row[0] for row in metrics(tmp_path)] == ["epoch", "1", "2"]


def image_folder(folder: Path, classes: str, count: int) -> None:
    from torchvision.transforms.functional import to_pil_image  # type: ignore[import-untyped]

    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            to_pil_image(torch.randint(256, (3, 48, 40), dtype=torch.uint8)).save(folder / name / f"{i}.png")


def test_folders_of_images(tmp_path: Path) -> None:
    """Two workers and one in two processes; a run that goes on amid an epoch, and classes that differ."""
    spec = "net n on 3x32x32 -> 3 { Conv(4, 3, 4) -> BatchNorm -> GlobalAvgPool -> Linear(classes) }\n"
    script = write(tmp_path / "net", spec)
    image_folder(tmp_path / "data" / "train", "abc", 11)
    image_folder(tmp_path / "data" / "val", "abc", 2)
    rest = ("--data-dir", tmp_path / "data", "--batch-size=8", "--epochs=2")
    succeed(sys.executable, script, *rest, "--run-dir", tmp_path / "a", "--workers=2")
    succeed(sys.executable, script, *rest, "--run-dir", tmp_path / "b", "--workers=0")
    assert_same(tmp_path / "a", tmp_path / "b")
    succeed(*TORCHRUN, script, *rest, "--run-dir", tmp_path / "c", "--workers=1")
    assert [row[0] for row in metrics(tmp_path / "c")] == ["epoch", "1", "2"]
    (tmp_path / "data" / "val" / "a").rename(tmp_path / "data" / "val" / "d")
    done = run(sys.executable, script, *rest, "--run-dir", tmp_path / "d")
    assert done.returncode == 1 and "other classes" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "data" / "val" / "d").rename(tmp_path / "data" / "val" / "a")
    (tmp_path / "data" / "train" / "a" / "0.png").write_bytes(b"no image")
    command = [str(c) for c in (sys.executable, script, *rest, "--run-dir", tmp_path / "e", "--workers=2")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 1 and "UnidentifiedImageError" in ended.stderr
    image_folder(tmp_path / "data" / "train", "e", 1)
    done = run(sys.executable, script, *rest, "--run-dir", tmp_path / "f")
    assert done.returncode == 1 and "4 classes of images, not 3" in done.stderr


def test_a_last_batch_of_one(tmp_path: Path) -> None:
    """Batch normalisation of 1x1 maps cannot take it; and an option is not abbreviated."""
    spec = "net odd on digits { Conv(4, 3) -> MaxPool(8) -> BatchNorm -> GlobalAvgPool -> Linear(classes) }\n"
    script = write(tmp_path / "odd", spec)
    succeed(sys.executable, script, "--run-dir", tmp_path / "run", "--batch-size=359", "--epochs=1")
    done = run(sys.executable, script, "--run-dir", tmp_path / "run", "--epoch=2", "--resume")
    assert done.returncode == 2 and "unrecognized arguments: --epoch=2" in done.stderr


def test_a_full_disk(script: Path, whole: Path, tmp_path: Path) -> None:
    """The checkpoint that was there stays whole."""
    for name in ("checkpoint.previous.pt", "metrics.csv"):
        (tmp_path / name.replace(".previous", "")).write_bytes((whole / name).read_bytes())
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = [sys.executable, str(script), "--run-dir", str(tmp_path), "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    spec = "net wild on digits {\n  Flatten -> Linear(64) -> Linear(64) -> Linear(classes)\n  train { lr 100 }\n}\n"
    done = run(sys.executable, write(tmp_path, spec), "--run-dir", tmp_path / "run", "--save-every=3")
    assert done.returncode == 1 and "the loss is not finite" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--device=nothing",), 1, "cannot use --device nothing"),
        (("--epochs=0",), 2, "at least 1"),
        (("--seed=-1",), 2, "2**32"),
        ((f"--seed={2**64}",), 2, "2**32"),
        (("--epochs=many",), 2, "invalid int value: 'many'"),
        (("--precission=fp32",), 2, "unrecognized arguments"),
        (("--run-dir=train.py",), 1, "cannot use --run-dir"),
    ],
)
def test_a_wrong_flag(script: Path, arguments: tuple[str, ...], status: int, message: str) -> None:
    done = run(sys.executable, script, *arguments, cwd=script.parent)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr


def test_other_settings_are_refused(script: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes())
    done = run(sys.executable, script, "--run-dir", tmp_path, "--resume", "--seed=7")
    assert done.returncode == 1 and "'seed': 0" in done.stderr and "'seed': 7" in done.stderr


def test_missing_data(tmp_path: Path) -> None:
    script = write(tmp_path, "net n = ResNet(18) on imagenet\n")
    done = run(sys.executable, script, "--data-dir", tmp_path / "none", "--run-dir", tmp_path / "run")
    assert done.returncode == 1 and "--data-dir" in done.stderr and "Traceback" not in done.stderr


def test_what_is_recorded(whole: Path) -> None:
    about = json.loads((whole / "run.json").read_text())
    assert about["spec"] == "small on digits" and about["batch_size"] == 100
    assert {"torch", "python", "command", "world"} <= set(about)
    assert {"spec", "spec_hash", "torch", "settings"} <= set(checkpoint(whole))


# ---- every script


def smoke(compiled: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[list[str]]:
    """Run two steps of a script in this process; its metrics."""
    model, train = types.ModuleType("model"), types.ModuleType("train")
    exec(compiled.model(), model.__dict__)
    monkeypatch.setitem(sys.modules, "model", model)
    train.__file__ = str(folder / "train.py")
    exec(compiled.train(), train.__dict__)
    monkeypatch.setattr(sys, "argv", ["train.py", "--smoke", "--device=cpu", f"--run-dir={folder}", *arguments])
    train.main()
    return metrics(folder / "smoke")


@pytest.mark.parametrize("spec", [str(p) for p in specs_in(SPECS)], ids=lambda s: Path(s).stem)
def test_two_steps(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> None:
    """Every spec trains: two steps on random images. Of a file the smallest network does."""
    compiled = [c for c in load(spec) if not untrainable(c.network)]
    if not compiled:
        return
    smallest = min(compiled, key=lambda c: c.check().macs)
    rows = smoke(smallest, tmp_path, monkeypatch)
    assert [row[0] for row in rows] == ["epoch", "1"]
    assert math.isfinite(float(rows[1][1]))


RECIPES = {
    "adamw": "optimizer adamw; schedule cosine; lr 0.001",
    "rmsprop": "optimizer rmsprop; warmup 1; label_smoothing 0.1",
    "half": "precision fp16; accumulate 2",
    "smooth": "accumulate 3; label_smoothing 0.1; schedule cosine",
}


BUILT = """
net base(k) {
  conv: Conv(k, 3) -> GlobalAvgPool -> fc: Linear(classes)
  train { epochs 100; milestones [50, 80]; momentum 0.5; warmup_lr 0.02; warmup 0 }
}
net middle(k) {
  base(2 * k)
  train { epochs 50; lr 0.3 }
}
net one on digits {
  middle(8)
  train { lr 0.2 }
}
net two = middle(8) on digits { train { schedule cosine; optimizer adamw } }
net three = base(16) on digits { train { epochs 20; milestones [3] } }
"""


def test_a_recipe_is_built_on_another(tmp_path: Path) -> None:
    """Each definition overrides those that it is built on, and may leave what they say without effect."""
    (tmp_path / "built.arch").write_text(BUILT, encoding="utf-8")
    one, two, three = (dict(c.network.recipe.settings) for c in load(str(tmp_path / "built.arch")))
    assert (one["epochs"], one["milestones"], one["lr"], one["momentum"]) == (
        50,
        (25, 40),
        Fraction(1, 5),
        Fraction(1, 2),
    )
    assert (two["epochs"], two["schedule"], two["lr"]) == (50, "cosine", Fraction(3, 10))
    assert (three["epochs"], three["milestones"], three["warmup"]) == (20, (3,), 0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> None:
    text = SPEC.replace("crop_padding 1", RECIPES[recipe])
    (tmp_path / "spec.arch").write_text(text)
    assert len(smoke(network_of(str(tmp_path / "spec.arch")), tmp_path, monkeypatch)) == 2


def test_stochastic_inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> None:
    rows = smoke(network_of("Swapout(8, 1)"), tmp_path, monkeypatch, "--passes=3")
    assert len(rows) == 2


def test_ten_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> None:
    text = "net n = ResNet(18) on 3x72x72 -> 4 { train { test_crops 10 } }\n"
    (tmp_path / "spec.arch").write_text(text)
    assert len(smoke(network_of(str(tmp_path / "spec.arch")), tmp_path, monkeypatch)) == 2
