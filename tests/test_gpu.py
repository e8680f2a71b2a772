"""The generated train.py on a GPU: it starts, it records its steps, and it is the same run however it is run."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import run, succeed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU on this machine"),
]

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
EXACT = ("--deterministic", "--precision=fp32")
SMALL = """
net small on digits {{
  Conv(8, 3, 2) -> BatchNorm -> ReLU -> Dropout(0.1) -> GlobalAvgPool -> Linear(classes)
  train {{ epochs 4; batch_size 100; {} }}
}}
"""
SPECS = {
    "dropout": SMALL.format("crop_padding 1; milestones [1, 2, 3]"),
    "smooth": SMALL.format("accumulate 3; label_smoothing 0.1; schedule cosine"),
    "adamw": SMALL.format("optimizer adamw; lr 0.001; milestones [2]"),
    "rmsprop": SMALL.format("optimizer rmsprop; lr 0.001; milestones [2]"),
    "masks": "net n = Swapout(8, 1) on fake { train { epochs 3; batch_size 60 } }\n",
    "paths": "net n = FractalNet(columns=2) on fake { train { epochs 3; batch_size 60 } }\n",
    "depth": "net n = StochasticDepth(8) on fake { train { epochs 3; batch_size 60 } }\n",
    "heads": "net n = DSN() on fake { train { epochs 3; batch_size 60 } }\n",
    "parallel": "net n = MultiResNet(8, k=4) on fake { train { epochs 3; batch_size 60 } }\n",
    "deep": "net n = PreResNet(56) on fake { train { epochs 3; batch_size 60 } }\n",
}


def write(folder: Path, spec: str, place: str | None = None) -> Path:
    """model.py and train.py of a spec; the path of train.py."""
    (folder / "spec.arch").write_text(spec, encoding="utf-8")
    options = ("--place", place) if place else ()
    succeed(sys.executable, "-m", "archdsl", "compile", folder / "spec.arch", "-o", folder / "net", *options)
    return folder / "net" / "train.py"


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "checkpoint.pt", "cpu", weights_only=True)
    return found


def assert_same(one: Path, other: Path) -> None:
    """Bitwise the same weights, optimiser and random states."""
    a, b = state(one), state(other)
    torch.testing.assert_close(a["model"], b["model"], rtol=0, atol=0)
    torch.testing.assert_close(a["optimizer"]["state"], b["optimizer"]["state"], rtol=0, atol=0)
    torch.testing.assert_close(a["processes"], b["processes"], rtol=0, atol=0)


def assert_recorded(text: str) -> None:
    assert "steps run as a CUDA graph" in text and "no CUDA graph" not in text


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["python", "torchrun"])
def test_it_starts(launcher: tuple[str, ...], tmp_path: Path) -> None:
    """By default, without a word about devices; also as the one process of torchrun, whose steps average gradients."""
    script = write(tmp_path, SPECS["dropout"])
    text = succeed(sys.executable, *launcher, script, "--run-dir", tmp_path / "run")
    assert "1 x cuda:0, bf16" in text
    assert_recorded(text)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and float(rows[-1]["images_per_second"]) > 0
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


@pytest.mark.parametrize("name", ["dropout", "smooth", "rmsprop"])
def test_smoke(name: str, tmp_path: Path) -> None:
    assert_recorded(succeed(sys.executable, write(tmp_path, SPECS[name]), "--smoke", "--run-dir", tmp_path))


def test_smoke_of_folders(tmp_path: Path) -> None:
    script = write(tmp_path, "net n = ResNet(18) on 3x96x96 -> 5\n")
    for launcher in ((), TORCHRUN):
        assert_recorded(succeed(sys.executable, *launcher, script, "--smoke", "--run-dir", tmp_path))


@pytest.mark.parametrize("name", SPECS)
def test_a_graph_is_the_eager_run(name: str, tmp_path: Path) -> None:
    """Bitwise, in fp32 with deterministic algorithms; and so is a second run of the seed."""
    script = write(tmp_path, SPECS[name])
    for folder, flags in {"eager": ("--eager",), "graph": (), "again": ()}.items():
        text = succeed(sys.executable, script, *EXACT, *flags, "--run-dir", tmp_path / folder)
        assert ("steps run as they are written: --eager" in text) == (folder == "eager")
        if folder != "eager":
            assert_recorded(text)
    assert_same(tmp_path / "graph", tmp_path / "eager")
    assert_same(tmp_path / "graph", tmp_path / "again")


def test_going_on(tmp_path: Path) -> None:
    """Killed amid an epoch, when steps are recorded, and resumed: it ends as the run that nothing has disturbed."""
    script = write(tmp_path, SPECS["dropout"])
    flags = (*EXACT, "--epochs=60", "--save-every=5")
    succeed(sys.executable, script, *flags, "--run-dir", tmp_path / "whole")
    command = [sys.executable, str(script), *flags, "--run-dir", str(tmp_path / "parts")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (tmp_path / "parts" / "checkpoint.previous.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state(tmp_path / "parts")["epoch"] < 60
    assert_recorded(succeed(*command, "--resume"))
    assert_same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("place", [None, "fused"])
def test_placements(place: str | None, tmp_path: Path) -> None:
    assert_recorded(succeed(sys.executable, write(tmp_path, SPECS["parallel"], place), "--run-dir", tmp_path / "run"))


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="this machine has more than one GPU")
@pytest.mark.parametrize("place", ["split:2", "mesh:2"])
def test_placements_that_need_more(place: str, tmp_path: Path) -> None:
    """One card is not enough for them, and this is said."""
    done = run(sys.executable, write(tmp_path, SPECS["parallel"], place), "--run-dir", tmp_path / "run")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"every process needs 2 CUDA devices|1 processes are no groups of 2", done.stderr)


@pytest.mark.parametrize("precision", ["auto", "fp32", "tf32", "bf16", "fp16"])
def test_precisions(precision: str, tmp_path: Path) -> None:
    script = write(tmp_path, SPECS["dropout"])
    text = succeed(sys.executable, script, f"--precision={precision}", "--run-dir", tmp_path / "run")
    if precision == "fp16":
        assert "steps run as they are written: fp16" in text
    else:
        assert_recorded(text)
    assert f"cuda:0, {'bf16' if precision == 'auto' else precision}," in text


def test_compiled_blocks(tmp_path: Path) -> None:
    """They are compiled inside of the graph, the last batch and evaluation are not; a deep network takes no longer."""
    script = write(tmp_path, SPECS["deep"])
    text = succeed(sys.executable, script, "--compile", "--run-dir", tmp_path / "run")
    assert re.search(r"compiled 27 blocks in \d+\.\d s", text)
    assert_recorded(text)


def test_a_recording_that_fails(tmp_path: Path) -> None:
    """A step that reads a number on the host cannot be recorded: one line says so, and the run is the eager one."""
    script = write(tmp_path, SPECS["dropout"])
    succeed(sys.executable, script, *EXACT, "--eager", "--run-dir", tmp_path / "eager")
    text = script.read_text(encoding="utf-8")
    assert "        self.scaler.update()\n" in text
    spoiled = text.replace("        self.scaler.update()\n", "        self.scaler.update()\n        self.loss.item()\n")
    script.write_text(spoiled, encoding="utf-8")
    said = succeed(sys.executable, script, *EXACT, "--run-dir", tmp_path / "graph")
    assert "no CUDA graph of train_batch for 100 images, it runs as it is written: " in said
    assert_same(tmp_path / "graph", tmp_path / "eager")


def test_too_little_memory(tmp_path: Path) -> None:
    """The batch that is proposed fits."""
    wide = "Conv(4096, 1) -> repeat 60 { BatchNorm -> ReLU } -> GlobalAvgPool -> Linear(classes)"
    script = write(tmp_path, f"net n on fake {{ {wide}\n train {{ epochs 1; batch_size 512 }} }}\n")
    done = run(sys.executable, script, "--run-dir", tmp_path / "run")
    found = re.search(r"512 images in a step are too many for cuda:0: try --batch-size (\d+)", done.stderr)
    assert done.returncode == 1 and found and "Traceback" not in done.stderr
    assert 50 < int(found[1]) < 512
    succeed(sys.executable, script, "--run-dir", tmp_path / "run", f"--batch-size={found[1]}")
