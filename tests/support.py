"""What several tests need: compiling texts, building the generated model, and PyTorch's own view of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from archdsl.base.source import Source
from archdsl.core.ir import Apply, Block, Head, Label, Layer, Loop, Network, Ref, Region, Select
from archdsl.core.measure import measure, modules
from archdsl.driver import Compiled, load
from archdsl.frontend.formatter import format_file
from archdsl.frontend.parser import parse

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
SPECS = ROOT / "specs"
GOLDEN = TESTS / "golden"
REFERENCE = TESTS / "reference"

MOST_MODULES = 4000
"""Of a deeper network only so many modules have their shapes compared."""

T = TypeVar("T")


def nonempty(found: Iterable[T]) -> list[T]:
    """The items in order. Fails where there are none: a glob that finds nothing tests nothing."""
    items = sorted(found)  # type: ignore[type-var]
    assert items, "nothing was found to test"
    return items


# ---- compiling


def network_of(spec: str) -> Compiled:
    """The only network of a spec."""
    (compiled,) = load(spec)
    return compiled


def compile_text(text: str, folder: Path) -> Compiled:
    """The only network of a text that is saved as a file: its name and hash do not depend on the folder."""
    path = folder / "spec.arch"
    path.write_text(text, encoding="utf-8")
    return network_of(str(path))


def formatted(text: str) -> str:
    """The canonical text of a spec."""
    return format_file(parse(Source("spec.arch", text)))


def specs_in(folder: Path) -> list[Path]:
    """The specs below a folder, but for those that only define: the standard library, and parts that others import."""
    return nonempty(p for p in folder.rglob("*.arch") if p.parent.name not in ("std", "parts"))


# ---- running what was generated


def execute(text: str, name: str = "generated") -> ModuleType:
    """The module of a generated text."""
    module = ModuleType(name)
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    return module


def build(text: str, device: str = "cpu") -> nn.Module:
    """The network of a generated model.py."""
    with torch.device(device):
        model: nn.Module = execute(text).build_model()
    return model


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command and what it said."""
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, cwd=cwd)


def succeed(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. Fails with all that it said if it does not exit with 0."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tool(name: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """What a tool of this Python's environment prints; it must succeed."""
    return succeed(sys.executable, "-m", name, *arguments, cwd=cwd)


def ruff_clean(files: Sequence[Path]) -> None:
    """Each file is as ruff formats it, a model at 100 columns too, and ruff's default rules find nothing."""
    tool("ruff", "format", "--check", "--diff", "--isolated", *files)
    models = [path for path in files if path.name != "train.py"]
    tool("ruff", "format", "--check", "--diff", "--isolated", "--line-length=100", *models)
    tool("ruff", "check", "--isolated", *files)


# ---- PyTorch as the oracle


@dataclass(frozen=True)
class Seen:
    """What PyTorch says of a network."""

    params: int
    macs: int
    depth: int
    output: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]]
    """The shape that each module returns; an image has no batch here."""


def observe(model: nn.Module, shape: tuple[int, ...]) -> Seen:
    """Run a model on its own device, which may be meta, and watch."""
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(path: str, module: nn.Module) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found = tuple(output.shape[1:])
            assert shapes.setdefault(path, found) == found, f"{path} returns {found} and {shapes[path]}"

        module.register_forward_hook(hook)

    model.eval()
    depth = traced_depth(model)
    for path, module in model.named_modules():
        if path and not isinstance(module, nn.ModuleList):
            watch(path, module)
    device = next(iter(model.state_dict().values()), torch.empty(0)).device
    x = torch.zeros(1, *shape, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        output = model(x)
    with torch.no_grad():
        model.train()(torch.cat([x, x]))  # the auxiliary outputs show in training alone
    params = sum(p.numel() for p in model.parameters())
    total = flops.get_total_flops()
    assert total % 2 == 0
    return Seen(params, total // 2, depth, tuple(output.shape[1:]), shapes)


def traced_depth(model: nn.Module) -> int:
    """Convolutions and linear layers on the longest path through the graph that torch.fx traces."""
    graph = fx.symbolic_trace(model).graph
    children = dict(model.named_modules())
    depth: dict[fx.Node, int] = {}
    for node in graph.nodes:
        own = node.op == "call_module" and isinstance(children[str(node.target)], nn.Conv2d | nn.Linear)
        depth[node] = max((depth[n] for n in node.all_input_nodes), default=0) + own
    return max(depth.values())


def check_against_torch(compiled: Compiled, text: str | None = None) -> nn.Module:
    """PyTorch counts, measures and shapes the generated model as the IR does. The model, on the meta device."""
    network = compiled.network
    model = build(text or compiled.model(), "meta")
    seen = observe(model, network.input.dims)
    cost = measure(network)
    assert (seen.params, seen.macs, seen.depth) == (cost.params, cost.macs, cost.depth)
    assert seen.output == network.output.dims
    expected = {path: step.output.dims for path, step in islice(modules(network.root), MOST_MODULES)}
    if len(expected) < MOST_MODULES:
        assert seen.shapes == expected
    else:
        assert {path: seen.shapes.get(path) for path in expected} == expected
    return model


# ---- the IR, interpreted


def interpret(network: Network, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Evaluate a network straight from its IR in evaluation mode, with the weights of a generated model.

    Shares no code with the back end, so it tells whether the generated `forward` computes what the IR says.
    """
    return _Interpreter(state).block(network.root, "", x)


class _Interpreter:
    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state
        self.heads: list[Tensor] = []

    def block(self, block: Block, prefix: str, x: Tensor) -> Tensor:
        return self.region(block.body, 0, {Ref(0, 0): x}, prefix, {}, 0)

    def region(
        self,
        region: Region,
        level: int,
        outer: dict[Ref, Tensor],
        prefix: str,
        counters: dict[str, int],
        shift: int,
    ) -> Tensor:
        values = dict(outer)
        for i, step in enumerate(region.steps, 1):
            match step:
                case Apply():
                    inputs = [values[r] for r in step.inputs]
                    name = self.name(step, counters, shift) if step.label else ""
                    result = self.apply(step.module, f"{prefix}{name}", inputs)
                case Select():
                    result = self.region(step.region, level + 1, values, prefix, counters, shift)
                case Loop():
                    result = self.loop(step, level, values, prefix, counters, shift)
                case Head():
                    result = self.region(step.region, level + 1, values, prefix, counters, shift)
                    self.heads.append(result)
            values[Ref(level, i)] = result
        return values[region.output]

    def loop(
        self, loop: Loop, level: int, values: dict[Ref, Tensor], prefix: str, counters: dict[str, int], shift: int
    ) -> Tensor:
        x = values[loop.input]
        results: list[Tensor] = []
        for run in loop.runs:
            for j in range(run.count):
                inner = {**values, Ref(level + 1, 0): x}
                result = self.region(run.region, level + 1, inner, prefix, counters, shift + j)
                results.append(result)
                x = result if loop.kind == "sequence" else x
        match loop.kind:
            case "sequence":
                return x
            case "sum":
                return _added(results)
            case "mean":
                return _added(results) / len(results)
            case "concat":
                return torch.cat(results, 1)

    def name(self, step: Apply, counters: dict[str, int], shift: int) -> str:
        label = step.label
        assert isinstance(label, Label)
        if label.style == "plain":
            return label.stem
        if label.style == "index":
            return f"{label.stem}{label.index + shift}"
        number = counters.get(label.stem, 0)
        counters[label.stem] = number + 1
        return f"{label.stem}.{number}" if label.style == "item" else str(number)

    def apply(self, module: Layer | Block, path: str, inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        if isinstance(module, Block):
            return self.block(module, f"{path}.", x)
        a = dict(module.args)
        weight, bias = self.state.get(f"{path}.weight"), self.state.get(f"{path}.bias")
        sizes = {n: _pair(a[n]) for n in ("kernel", "stride", "padding", "dilation") if n in a}
        match module.kind:
            case "Conv":
                assert weight is not None and (bias is not None) == (a["bias"] is not False)
                assert tuple(weight.shape[2:]) == sizes["kernel"]
                return F.conv2d(x, weight, bias, sizes["stride"], sizes["padding"], sizes["dilation"], int(a["groups"]))  # type: ignore[arg-type]
            case "Linear":
                assert weight is not None and (bias is not None) == (a["bias"] is not False)
                return F.linear(x, weight, bias)
            case "BatchNorm":
                mean, variance = self.state[f"{path}.running_mean"], self.state[f"{path}.running_var"]
                return F.batch_norm(x, mean, variance, weight, bias, eps=float(a["eps"]))  # type: ignore[arg-type]
            case "ReLU":
                return x.clamp_min(0)
            case "ELU":
                return torch.where(x > 0, x, float(a["alpha"]) * (x.exp() - 1))  # type: ignore[arg-type]
            case "Sigmoid":
                return 1 / (1 + (-x).exp())
            case "Tanh":
                return x.tanh()
            case "Maxout":
                pieces = int(a["pieces"])  # type: ignore[arg-type]
                return torch.stack([x[:, i::pieces] for i in range(pieces)]).amax(0)
            case "LocalResponseNorm":
                alpha, beta, k = (float(a[n]) for n in ("alpha", "beta", "k"))  # type: ignore[arg-type]
                return F.local_response_norm(x, int(a["size"]), alpha, beta, k)  # type: ignore[arg-type]
            case "Dropout" | "Identity":
                return x
            case "Survival":
                return x * float(a["p"])  # type: ignore[arg-type]
            case "Mask":
                return x * float(a["keep"])  # type: ignore[arg-type]
            case "MaxPool":
                return F.max_pool2d(x, sizes["kernel"], sizes["stride"], sizes["padding"], ceil_mode=bool(a["ceil"]))
            case "AdaptiveAvgPool":
                return F.adaptive_avg_pool2d(x, _pair(a["size"]))
            case "AvgPool":
                return F.avg_pool2d(x, sizes["kernel"], sizes["stride"], sizes["padding"], bool(a["ceil"]))
            case "GlobalAvgPool":
                return x.mean((2, 3))
            case "Flatten":
                return x.reshape(len(x), -1)
            case "Subsample":
                return x[:, :, :: int(a["stride"]), :: int(a["stride"])]  # type: ignore[arg-type]
            case "PadChannels":
                zeros = x.new_zeros(len(x), int(a["width"]) - x.shape[1], *x.shape[2:])  # type: ignore[arg-type]
                return torch.cat([x, zeros], 1)
            case "add":
                return _added(inputs)
            case "mean" | "DropPath":
                return _added(inputs) / len(inputs)
            case "multiply":
                return _multiplied(inputs)
            case "affine":
                return float(a["scale"]) * x + float(a["offset"])  # type: ignore[arg-type]
            case "concat":
                return torch.cat(inputs, 1)
            case kind:
                raise AssertionError(f"the interpreter of the tests does not know {kind}")


def _pair(value: object) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)  # type: ignore[return-value]


def _added(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _multiplied(tensors: Sequence[Tensor]) -> Tensor:
    result = tensors[0]
    for tensor in tensors[1:]:
        result = result * tensor
    return result


def check_semantics(compiled: Compiled, text: str | None = None) -> None:
    """The generated model computes what its IR says in evaluation, on random weights and statistics."""
    network = compiled.network
    model = build(text or compiled.model()).double().eval()
    generator = torch.Generator().manual_seed(0)
    state = model.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            fan = max(1, prod(value.shape[1:]))
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise / fan**0.5)
    x = torch.randn(2, *network.input.dims, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), interpret(network, state, x), rtol=1e-9, atol=1e-9)


def code_lines(text: str) -> list[str]:
    """The lines of a generated file below its head."""
    return re.split(r'^"""$', text, maxsplit=1, flags=re.MULTILINE)[1].splitlines()


def networks_of(paths: Iterable[Path]) -> Iterator[tuple[str, Compiled]]:
    """Every network of some specs, with an id for a test."""
    for path in paths:
        for compiled in load(str(path)):
            yield f"{path.stem}-{compiled.network.name}", compiled
