"""Seconds of a training step under every placement, beside the deeper network of equal parameters.

    python benchmarks/placement.py [--depth 110] [--k 2 4 6] [--batch 128 32] [--steps 3]

As in table V of arXiv:1609.05672: MultiResNet(depth, k) against the pre-activation network of k times the layers, which
shares the images. On CPUs a process has one core: one process has core 0, and two have cores 0 and 1. With CUDA devices
it measures those that are there. Every figure is the median of interleaved steps of forward, backward and update.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from archdsl.driver import load

DEEPER = {2: lambda depth: 2 * depth - 2, 4: lambda depth: 4 * depth - 6, 6: lambda depth: 6 * depth - 10}
"""Depths of the networks that table V compares with: 218, 434 and 650 for 110."""


def build(spec: str, place: str | None, *args: Any) -> nn.Module:
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(compile(load(spec, place)[0].model(), "model.py", "exec"), namespace)
    model: nn.Module = namespace["build_model"](*args)
    return model


def stepper(
    model: nn.Module, batch: int, device: str, after: Callable[[nn.Module], None] = lambda model: None
) -> Callable[[], float]:
    """A function that does one step and tells its seconds."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4)
    x = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,), device=device)

    def step() -> float:
        began = time.perf_counter()
        nn.functional.cross_entropy(model(x), y).backward()
        after(model)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return step


def alone(depth: int, k: int, batch: int, steps: int) -> dict[str, float]:
    """Rows of one process."""
    wide, deep = f"MultiResNet({depth}, k={k})", f"PreResNet({DEEPER[k](depth)})"
    cuda = torch.cuda.is_available()
    device = "cuda:0" if cuda else "cpu"
    two = ("cuda:0", "cuda:1") if torch.cuda.device_count() > 1 else ("cpu", "cpu")
    models = {
        f"{deep}, one device": build(deep, None).to(device),
        f"{wide}, one device": build(wide, None).to(device),
        f"{wide}, fused": build(wide, "fused").to(device),
    }
    if not cuda or two[1] == "cuda:1":
        models[f"{wide}, split:2 over {', '.join(two)}"] = build(wide, "split:2", two)
    if cuda:
        for name in (f"{wide}, one device", f"{wide}, fused"):
            models[f"{name}, compiled"] = torch.compile(models[name], mode="reduce-overhead")
    run = {name: stepper(m.to(memory_format=torch.channels_last), batch, device) for name, m in models.items()}
    return medians(run, steps)


def medians(run: dict[str, Callable[[], float]], steps: int) -> dict[str, float]:
    for step in run.values():
        step()
    times = [{name: step() for name, step in run.items()} for _ in range(steps)]
    return {name: statistics.median(t[name] for t in times) for name in run}


def together(depth: int, k: int, batch: int, steps: int) -> dict[str, float]:
    """Rows of two processes: functions shared, and the deeper network with half of the images each."""
    wide, deep = f"MultiResNet({depth}, k={k})", f"PreResNet({DEEPER[k](depth)})"
    cuda = torch.cuda.device_count() > 1
    device = f"cuda:{dist.get_rank()}" if cuda else "cpu"
    mesh = init_device_mesh("cuda" if cuda else "cpu", (1, 2), mesh_dim_names=("data", "function"))
    shared = build(wide, "mesh:2", mesh).to(device)
    average = type(shared).forward.__globals__["average_gradients"]
    halves = DistributedDataParallel(build(deep, None).to(device))
    run = {
        f"{deep}, two devices share the images": stepper(
            halves.to(memory_format=torch.channels_last), batch // 2, device
        ),
        f"{wide}, mesh:2": stepper(shared.to(memory_format=torch.channels_last), batch, device, average),
    }
    return medians(run, steps)


def child(arguments: argparse.Namespace) -> None:
    """One measuring process; its rows go to a file."""
    rank = int(os.environ.get("RANK", "0"))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    measure = alone
    if arguments.child == "together":
        dist.init_process_group("nccl" if torch.cuda.device_count() > 1 else "gloo")
        measure = together
    rows = measure(arguments.depth, arguments.k[0], arguments.batch[0], arguments.steps)
    if rank == 0:
        arguments.out.write_text("\n".join(f"{name}\t{seconds}" for name, seconds in rows.items()))
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def rows_of(arguments: argparse.Namespace, k: int, batch: int, kind: str) -> dict[str, float]:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2") if kind == "together" else ()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows"
        rest = (f"--depth={arguments.depth}", f"--batch={batch}", f"--steps={arguments.steps}")
        command: Sequence[str] = (
            sys.executable,
            *torchrun,
            __file__,
            "--child",
            kind,
            f"--out={out}",
            *rest,
            "--k",
            str(k),
        )
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return {name: float(seconds) for name, seconds in (line.split("\t") for line in out.read_text().splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--depth", type=int, default=110)
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4, 6], choices=sorted(DEEPER))
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 32])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--child", choices=("alone", "together"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    for batch in arguments.batch:
        print(f"\n| batch {batch} | ms a step | against one device |\n|---|---|---|", flush=True)
        for k in arguments.k:
            rows = rows_of(arguments, k, batch, "alone")
            base = rows[f"MultiResNet({arguments.depth}, k={k}), one device"]
            if not torch.cuda.is_available() or torch.cuda.device_count() > 1:
                rows |= rows_of(arguments, k, batch, "together")
            for name, seconds in rows.items():
                print(f"| {name} | {seconds * 1e3:,.0f} | x{base / seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
