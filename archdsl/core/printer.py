"""IR -> text, for `--emit ir` and the goldens."""

from __future__ import annotations

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Label, Layer, Loop, Network, Ref, Region, Select, Step, blocks_of
from archdsl.core.measure import measure
from archdsl.core.types import scalar_text


def print_network(network: Network) -> str:
    """Every distinct block once, each after those it uses, as text."""
    cost = measure(network)
    blocks = blocks_of(network.root)
    names = _names(blocks)
    head = [
        f"network {network.name}: {network.spec}",
        f"  input {network.input}, output {network.output}"
        + (f", data {network.data}" if network.data else "")
        + (f", {network.classes} classes" if network.classes else ""),
        f"  params {cost.params}, macs {cost.macs}, depth {cost.depth}",
    ]
    head += [f"  init {name} {_value(value)}" for name, value in network.start]
    head += [f"  {name} {_value(value)}" for name, value in network.recipe.settings]
    lines = [line for block in blocks for line in ["", *_block(block, names)]]
    return "\n".join([*head, *lines]) + "\n"


def _names(blocks: tuple[Block, ...]) -> dict[int, str]:
    """A name for each block: that of its definition, numbered where several instances differ."""
    totals: dict[str, int] = {}
    names: dict[int, str] = {}
    for block in blocks:
        totals[block.name] = totals.get(block.name, 0) + 1
        names[id(block)] = f"{block.name}.{totals[block.name]}"
    return {k: n.removesuffix(".1") if totals[n.rsplit(".", 1)[0]] == 1 else n for k, n in names.items()}


def _block(block: Block, names: dict[int, str]) -> list[str]:
    args = ", ".join(f"{name}={_value(value)}" for name, value in block.scalars)
    keyword = "block" if block.style == "module" else block.style
    head = f"{keyword} {names[id(block)]}({args}): {block.input} -> {block.output}"
    return [head, *_region(block.body, 0, names, 1)]


def _region(region: Region, level: int, names: dict[int, str], indent: int) -> list[str]:
    lets = dict(region.names)
    lines = []
    for i, step in enumerate(region.steps, 1):
        lines += _step(step, Ref(level, i), lets.get(i), names, indent)
    return [*lines, f"{'  ' * indent}return {_ref(region.output)}"]


def _step(step: Step, ref: Ref, let: str | None, names: dict[int, str], indent: int) -> list[str]:
    pad = "  " * indent
    target = f"{_ref(ref)}{f' ({let})' if let else ''}"
    match step:
        case Apply():
            what = f"{_label(step.label)}{_module(step.module, names)}{' again' if step.again else ''}"
            inputs = ", ".join(_ref(r) for r in step.inputs)
            return [f"{pad}{target} = {what} of {inputs} : {step.output}"]
        case Select():
            arm = "then" if step.arm == 0 else "else"
            head = f"{pad}{target} = {arm} : {step.output}"
            return [head, *_region(step.region, ref.level + 1, names, indent + 1)]
        case Head():
            head = f"{pad}{target} = auxiliary output of weight {_value(step.weight)} : {step.output}"
            return [head, *_region(step.region, ref.level + 1, names, indent + 1)]
        case Loop():
            head = f"{pad}{target} = {step.kind} of {_ref(step.input)} : {step.output}"
            lines = [head]
            for run in step.runs:
                last = f"..{run.start + run.count - 1}" if run.count > 1 else ""
                lines.append(f"{pad}  iteration {run.start}{last}:")
                lines += _region(run.region, ref.level + 1, names, indent + 2)
            return lines
        case _:
            assert_never(step)


def _ref(ref: Ref) -> str:
    return f"%{ref.level}.{ref.index}" if ref.level else f"%{ref.index}"


def _label(label: Label | None) -> str:
    match label:
        case None:
            return ""
        case Label(style="plain"):
            return f"{label.stem}: "
        case Label(style="index"):
            return f"{label.stem}{label.index}: "
        case Label(style="item"):
            return f"{label.stem}[]: "
        case Label():
            return "-: "


def _module(module: Layer | Block, names: dict[int, str]) -> str:
    if isinstance(module, Block):
        return names[id(module)]
    args = ", ".join(f"{name}={_value(value)}" for name, value in module.args)
    return f"{module.kind}({args})" if args else module.kind


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else scalar_text(value)
