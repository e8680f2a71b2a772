"""What one CUDA GPU does with the generated code: Markdown tables, in at most six minutes.

    python benchmarks/gpu.py [--only steps]

Speeds are images a second of training, through the whole loop of train.py: shuffling, gathering, augmentation, the bar,
and the look at whether all is finite. "Before" is the script run one operation at a time (--eager); the bare graph is
that of the script, replayed and nothing else. Runs are interleaved, and each figure is the
median of several.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archdsl
from archdsl.core.machines import MACHINES
from archdsl.core.memory import memory
from archdsl.core.training_time import step_time
from archdsl.driver import load

BEGAN = time.perf_counter()
AIRBENCH = """
block Group(width) {
  Conv(width, 3) -> MaxPool(2) -> BatchNorm -> ReLU -> Conv(width, 3) -> BatchNorm -> ReLU
}
net airbench94 on cifar10 {
  Conv(24, 2, padding=0, bias=true) -> ReLU -> Group(64) -> Group(256) -> Group(256) -> MaxPool(3) -> Flatten
  -> Linear(classes, bias=false)
  train { batch_size 1024; crop_padding 2 }
}
"""
"""The network of airbench94 (arXiv:2404.00498) with ReLU for GELU."""


def say(line: str = "") -> None:
    print(line, flush=True)


def row(*cells: object) -> None:
    say("| " + " | ".join(str(cell) for cell in cells) + " |")


def table(*names: str) -> None:
    say()
    row(*names)
    row(*("---" for _ in names))


def source(spec: str) -> str:
    """A SPEC: text of several lines becomes a file."""
    if "\n" not in spec:
        return spec
    path = Path(tempfile.mkdtemp()) / "airbench94.arch"
    path.write_text(spec, encoding="utf-8")
    return str(path)


def script(spec: str, batch: int, *flags: str, place: str | None = None, images: int = 0) -> Any:
    """A train.py in this process, on random images: its Run, ready to train epochs of some steps."""
    (compiled,) = load(source(spec), place)
    model, train = types.ModuleType("model"), types.ModuleType("train")
    exec(compiled.model(), model.__dict__)
    sys.modules["model"] = model
    train.__file__ = str(Path(tempfile.mkdtemp()) / "train.py")
    exec(compiled.train(), train.__dict__)
    train.say = lambda text: None
    sys.argv = ["train.py", f"--batch-size={batch}", *flags]
    args = train.options()
    device = train.start(args)
    n = images or 40 * batch
    x, y = torch.randn(n, *train.INPUT, device=device), torch.randint(train.CLASSES, (n,), device=device)
    return train.Run(args, device, train.Data(x, y, x[:512], y[:512]))


def epoch(run: Any) -> float:
    """Images a second of one epoch of the script."""
    run.step = 0
    run.loss.zero_()
    with contextlib.redirect_stderr(io.StringIO()):
        _, speed = run.train()
    return float(speed)


def bare(run: Any, batch: int, steps: int = 40) -> float:
    """Images a second of the graph that a script has recorded, replayed and nothing else."""
    graph, _ = run.training_step.graphs[batch]
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        graph.replay()
    torch.cuda.synchronize()
    return steps * batch / (time.perf_counter() - began)


def interleaved(work: Mapping[str, Callable[[], float]], rounds: int = 5) -> dict[str, float]:
    """The median of each, after a round that is not counted."""
    for each in work.values():
        each()
    seen: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, each in work.items():
            seen[name].append(each())
    return {name: statistics.median(values) for name, values in seen.items()}


def starts() -> None:
    """The default command of a script, as a user types it."""
    folder = Path(tempfile.mkdtemp())
    subprocess.run(
        [sys.executable, "-m", "archdsl", "compile", "WRN(16, 4) on fake", "-o", folder],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    done = subprocess.run(
        [sys.executable, folder / "train.py", "--epochs=2"], capture_output=True, text=True, check=True
    )
    say("\n### `python train.py` of WRN(16, 4) on fake, two epochs\n\n```")
    say(done.stdout.replace(str(folder), "."))
    say("```")


STEPS = (
    ("WRN(16, 4)", 128, True),
    ("ResNet(20)", 128, True),
    ("ResNet(20)", 1024, False),
    ("WRN(28, 10)", 128, False),
    ("PreResNet(110)", 128, True),
    ("DenseNet(100, 12, bc=true)", 64, False),
    (AIRBENCH, 1024, True),
)


def steps() -> None:
    """Eager, graph and compiled scripts against the bare graph, and what was predicted."""
    card = torch.cuda.get_device_name().upper()
    machine = next((name for name in MACHINES if name.upper() in card), "")
    say("\n### Training steps of train.py: images a second, bf16")
    table("network, batch", "eager", "graph", "of the bare graph", "over eager", "compiled", "over graph", "predicted")
    for spec, batch, compiles in STEPS:
        name = "airbench94's network" if "\n" in spec else spec
        graph = script(spec, batch)
        work = {
            "eager": partial(epoch, script(spec, batch, "--eager")),
            "graph": partial(epoch, graph),
            "bare": partial(bare, graph, batch),
        }
        took = ""
        if compiles:
            compiled = script(spec, batch, "--compile")
            began = time.perf_counter()
            epoch(compiled)
            took = f" ({time.perf_counter() - began:.0f} s)"
            work["compiled"] = partial(epoch, compiled)
        seen = interleaved(work, 3)
        (network,) = load(source(spec))
        told = batch / (step_time(network.network, MACHINES[machine], batch, "bf16").graph or 1) if machine else 0
        gained = f"{seen['compiled']:,.0f}{took} | x{seen['compiled'] / seen['graph']:.2f}" if compiles else "| "
        row(
            f"{name}, {batch}",
            f"{seen['eager']:,.0f}",
            f"{seen['graph']:,.0f}",
            f"{seen['graph'] / seen['bare']:.2f}",
            f"x{seen['graph'] / seen['eager']:.2f}",
            gained,
            f"{told:,.0f} ({told / seen['graph'] - 1:+.0%})" if told else "",
        )
        torch.cuda.empty_cache()


def parallel() -> None:
    """Table V of arXiv:1609.05672, on one card."""
    say("\n### Table V on one card: ms a step of train.py, bf16; `deep` is the network of equal parameters")
    table(
        "batch, k",
        "deep",
        "deep, graph",
        "plain",
        "plain, graph",
        "fused",
        "fused, graph",
        "over plain",
        "over plain graph",
    )
    for batch in (32, 128):
        for k in (2, 4, 6):
            spec, deep = f"MultiResNet(110, k={k})", f"PreResNet({108 * k + 2})"
            runs = {
                f"{name}{flag}": script(what, batch, *flags, place=place, images=(6 if flags else 16) * batch)
                for name, what, place in (("deep", deep, None), ("plain", spec, None), ("fused", spec, "fused"))
                for flag, flags in (("", ("--eager",)), (" graph", ()))
            }
            seen = interleaved({name: partial(epoch, run) for name, run in runs.items()}, 3)
            ms = {name: 1e3 * batch / speed for name, speed in seen.items()}
            row(
                f"{batch}, {k}",
                *(f"{ms[name]:.1f}" for name in runs),
                f"x{ms['plain'] / ms['fused graph']:.1f}",
                f"x{ms['plain graph'] / ms['fused graph']:.1f}",
            )
            torch.cuda.empty_cache()


def against_torchvision() -> None:
    """The generated networks against torchvision's, in one loop."""
    from torchvision import models

    say("\n### Generated networks against torchvision's: ms an eager step, batch 64, 224 x 224, bf16")
    table("network", "generated", "torchvision", "ratio")
    x = torch.randn(64, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    y = torch.randint(1000, (64,), device="cuda")

    def step(model: nn.Module) -> Callable[[], float]:
        model.to("cuda").to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)

        def timed() -> float:
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(5):
                optimizer.zero_grad()
                with torch.autocast("cuda", torch.bfloat16):
                    loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
            torch.cuda.synchronize()
            return 200 * (time.perf_counter() - began)

        return timed

    for spec, name in (("ResNet(50)", "resnet50"), ("WRN(50, 2)", "wide_resnet50_2"), ("DenseNet(121)", "densenet121")):
        work = {"ours": step(archdsl.build(spec)), "theirs": step(getattr(models, name)())}
        seen = interleaved(work)
        row(spec, f"{seen['ours']:.1f}", f"{seen['theirs']:.1f}", f"x{seen['ours'] / seen['theirs']:.3f}")


MEMORY = (
    ("WRN(16, 4)", 128, "bf16"),
    ("WRN(28, 10)", 128, "tf32"),
    ("WRN(28, 10)", 128, "bf16"),
    ("PreResNet(110)", 128, "bf16"),
    ("DenseNet(100, 12, bc=true)", 64, "bf16"),
    ("MultiResNet(110, k=4)", 128, "bf16"),
)


def peaks() -> None:
    """The peak of an eager script's steps, less its images, against `params --memory`."""
    say("\n### Peak memory of train.py --eager: GB, the resident images left out")
    table("network, batch, precision", "predicted", "measured", "error")
    for spec, batch, precision in MEMORY:
        run = script(spec, batch, "--eager", f"--precision={precision}", images=4 * batch)
        epoch(run)
        torch.cuda.synchronize()
        images = sum(tensor.nbytes for tensor in run.data[:2])
        before = torch.cuda.memory_allocated()
        own = sum(t.nbytes for t in [*run.model.parameters(), *run.model.buffers()])
        own += sum(t.nbytes for s in run.optimizer.state.values() for t in s.values() if isinstance(t, Tensor))
        own += sum(p.grad.nbytes for p in run.model.parameters())
        others = before - own - images
        torch.cuda.reset_peak_memory_stats()
        epoch(run)
        measured = torch.cuda.max_memory_allocated() - images - others
        (network,) = load(spec)
        told = memory(network.network, batch, precision).training  # type: ignore[arg-type]
        row(
            f"{spec}, {batch}, {precision}", f"{told / 1e9:.3f}", f"{measured / 1e9:.3f}", f"{told / measured - 1:+.1%}"
        )
        del run
        torch.cuda.empty_cache()


def main() -> None:
    parts = {
        "start": starts,
        "steps": steps,
        "torchvision": against_torchvision,
        "memory": peaks,
        "parallel": parallel,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=parts, help="one part; without it all, each in a process of its own")
    only = parser.parse_args().only
    if not torch.cuda.is_available():
        raise SystemExit("this needs a CUDA GPU, and there is none")
    if only:
        parts[only]()
        return
    say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    for name in parts:
        done = subprocess.run([sys.executable, __file__, "--only", name], check=False)
        say(f"\n({name}: exit status {done.returncode}, {time.perf_counter() - BEGAN:.0f} s so far)")


if __name__ == "__main__":
    main()
