"""A training step of generated networks against torchvision's own, in turn in one run.

    python benchmarks/step.py [--batch 16] [--size 96] [--steps 15]

The ratio of each pair of neighbouring steps is taken, because a machine's speed drifts; their median is the result.
Peak memory is that of a step in a process of its own on the CPU, and torch's own count on a GPU, where channels_last
and bfloat16 are used too.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

import archdsl

PAIRS = {"ResNet(50)": "resnet50", "WRN(50,2)": "wide_resnet50_2"}


def make(name: str) -> nn.Module:
    """A network by spec, or, without brackets, torchvision's of that name."""
    model: nn.Module = archdsl.build(name) if "(" in name else getattr(models, name)()
    return model


class Stepper:
    """A network in training, one step at a time."""

    def __init__(self, name: str, device: torch.device, batch: int, size: int) -> None:
        torch.manual_seed(0)
        self.on_gpu = device.type == "cuda"
        self.model = make(name).to(device).train()
        self.x = torch.randn(batch, 3, size, size, device=device)
        self.y = torch.randint(1000, (batch,), device=device)
        if self.on_gpu:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.x = self.x.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    def loss(self) -> Tensor:
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.on_gpu):
            return F.cross_entropy(self.model(self.x), self.y)

    def step(self) -> float:
        """Seconds of one step."""
        if self.on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start


def peak(name: str, device: str, batch: int, size: int) -> int:
    """Peak memory of three steps in a process of its own, in bytes."""
    command = [sys.executable, __file__, "--peak", name, "--device", device, "--batch", str(batch), "--size", str(size)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(name: str, device: torch.device, batch: int, size: int) -> None:
    stepper = Stepper(name, device, batch, size)
    for _ in range(3):
        stepper.step()
    on_gpu = device.type == "cuda"
    print(torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.peak:
        print_peak(args.peak, device, args.batch, args.size)
        return
    print(
        f"{device}, torch {torch.__version__}, batch {args.batch}, {args.size}x{args.size} pixels, {args.steps} pairs"
    )
    for spec, theirs in PAIRS.items():
        ours, other = (Stepper(name, device, args.batch, args.size) for name in (spec, theirs))
        for stepper in (ours, other):
            stepper.step()
        pairs = [(ours.step(), other.step()) for _ in range(args.steps)]
        ratio = statistics.median(a / b for a, b in pairs)
        mine, its = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        del ours, other
        memory = [min(peak(name, args.device, args.batch, args.size) for _ in range(3)) for name in (spec, theirs)]
        print(f"{spec:12} {mine * 1e3:8.1f} ms, {theirs} {its * 1e3:8.1f} ms: time x{ratio:.3f}", end=", ")
        print(f"peak memory {memory[0] / 2**20:.0f} and {memory[1] / 2**20:.0f} MiB: x{memory[0] / memory[1]:.3f}")


if __name__ == "__main__":
    main()
