"""What the generated train.py costs over a bare loop of forward, backward and step on data that is already there.

    python benchmarks/harness.py [--spec 'WRN(16, 2) on cifar10'] [--pairs 9]

Both run the same steps in one process, in turn, because a machine's speed drifts: an epoch of random images through
`Run.train`, with its shuffling, augmentation, bar, checks and loss, and as many steps of the bare loop. The median of
the ratios of neighbouring pairs is the result.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import archdsl


def script(spec: str) -> Any:
    """The modules of a generated model.py and train.py, as one."""
    network = archdsl.load(spec)
    model, train = types.ModuleType("model"), types.ModuleType("train")
    exec(network.source(), model.__dict__)
    sys.modules["model"] = model
    train.__file__ = str(Path(tempfile.mkdtemp()) / "train.py")
    exec(network.train_source(), train.__dict__)
    return train


def bare(run: Any, x: torch.Tensor, y: torch.Tensor, size: int) -> None:
    """Forward, backward and step, and nothing else."""
    run.model.train()
    for images, labels in zip(x.split(size), y.split(size), strict=True):
        with run.autocast():
            loss = F.cross_entropy(run.model(images), labels)
        loss.backward()
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)


def seconds(work: Any, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="WRN(16, 2) on cifar10")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=9)
    mine = parser.parse_args()
    train = script(mine.spec)
    sys.argv = ["train.py", f"--batch-size={mine.batch}"]
    args = train.options()
    device = train.start(args)
    n = mine.steps * mine.batch
    x = torch.randn(n, *train.INPUT, device=device)
    y = torch.randint(train.CLASSES, (n,), device=device)
    run = train.Run(args, device, train.Data(x, y, x, y))

    def whole() -> None:
        run.step = 0
        run.train()

    def loop() -> None:
        bare(run, x, y, mine.batch)

    for work in (whole, loop):
        work()
    pairs = [(seconds(whole, device), seconds(loop, device)) for _ in range(mine.pairs)]
    ours, theirs = (statistics.median(p[i] for p in pairs) / mine.steps for i in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"{mine.spec}, {device}, batch {mine.batch}: {ours * 1e3:.1f} ms a step, {theirs * 1e3:.1f} bare: x{ratio:.3f}"
    )


if __name__ == "__main__":
    main()
