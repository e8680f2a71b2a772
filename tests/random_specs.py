"""Random networks as .arch text, legal by construction, over the whole language.

Every flow keeps a contract: it takes feature maps of any channels and gives `width` of them (or as many as it was
given), with the resolution divided by `stride` and rounded up (or kept). "Same" convolutions, padded pools and
`Subsample` all round in this way, so flows of one contract can be added, concatenated or chosen between, whatever the
numbers are.

A `chain` is a text of steps, `a -> { b } -> c`; a `flow` is the same as an expression, which cannot begin with a brace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

_BLOCK_NAMES = [
    "Unit",
    "unit",
    "wide_unit",
    "WideUnit",
    "Mixer",
    "Network",
    "Layer",
    "Body",
    "Tensor",
    "stage",
    "model",
]
_STEMS = [
    "conv",
    "bn",
    "fc",
    "body",
    "convs",
    "bns",
    "h",
    "out",
    "x",
    "units",
    "shortcut",
    "n",
    "conv1",
    "conv2",
    "bn1",
]
_KEEPS = ["BatchNorm", "ReLU", "Dropout(0.1)", "MaxPool(3, 1, padding=1)", "AvgPool(3, 1, padding=1)", "Identity"]
_KEEPS += ["ELU", "Sigmoid", "Tanh", "Survival(0.7)", "Mask(0.8)", "LocalResponseNorm(3)", "BatchNorm(0.001)"]


@dataclass(frozen=True)
class Param:
    """A parameter of a definition: `kind` says what it may be given."""

    name: str
    kind: str
    default: str | None = None


@dataclass(frozen=True)
class Definition:
    """A definition of the file, and how it may be used."""

    name: str
    style: str
    """ "block", "sequence" or "flow"."""
    params: tuple[Param, ...]
    width: bool
    """Whether it takes a width; without one it keeps the channels."""
    stride: bool
    once: bool = False
    """A flow with labels: only once in a block, and not in a loop."""


@dataclass(frozen=True)
class Place:
    """What is visible where a text will stand. The sets are shared between the places of one definition or block."""

    params: tuple[Param, ...] = ()
    labels: set[str] = field(default_factory=set)
    """Names taken in the block around."""
    flows: set[str] = field(default_factory=set)
    """Flows with labels that the block around has."""
    loops: tuple[tuple[str | None, int | None], ...] = ()
    """Loops around, in this block: index and count, where there is one and where it is known."""
    indices: tuple[str, ...] = ()
    """Every index in sight."""
    labelled: bool = True
    """Whether labels may be given at all."""
    items: bool = True
    """Whether labels may number the elements of a list here."""

    @property
    def can_label(self) -> bool:
        named = all(index for index, _ in self.loops)
        return (
            self.labelled and named and (len(self.loops) < 2 or (len(self.loops) == 2 and self.loops[1][1] is not None))
        )

    def of(self, *kinds: str) -> list[str]:
        return [p.name for p in self.params if p.kind in kinds]


class Writer:
    """Draws one spec."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.definitions: list[Definition] = []
        self.count = 0
        self.fuel = 0
        """How many more pieces may have pieces of their own."""

    # ---- drawing

    def pick(self, options: Sequence[T]) -> T:
        found: T = self.draw(st.sampled_from(options))
        return found

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def chance(self, percent: int) -> bool:
        return self.number(0, 99) >= 100 - percent

    def fresh(self, stem: str) -> str:
        """A name that nothing else has; it ends in a letter, so that numbers after it are its own."""
        self.count += 1
        n, letters = self.count, ""
        while n:
            n, rest = divmod(n - 1, 26)
            letters = chr(ord("a") + rest) + letters
        return f"{stem}_{letters}"

    # ---- a file

    def file(self) -> str:
        parts = [self.fractal()] if self.chance(10) else []
        for name in self.draw(st.lists(st.sampled_from(_BLOCK_NAMES), max_size=4, unique=True)):
            self.fuel = 7
            parts.append(self.definition(name))
        self.fuel = 12
        parts.append(self.network())
        return "\n\n".join(parts[::-1] if self.chance(50) else parts) + "\n"

    def network(self) -> str:
        side = self.number(3, 12)
        classes = self.number(1, 7)
        shape = f"{self.number(1, 4)}x{side}x{self.pick([side, side, self.number(3, 12)])}"
        place = Place(params=(Param("k", "size"), Param("n", "count")))
        steps = [self.piece(place, self.width(place), None)]
        steps += [self.stage(place) for _ in range(self.number(0, 3))]
        steps.append(self.head())
        if steps[0].startswith("{"):
            steps.insert(0, "in")
        body = "\n  -> ".join(steps)
        if self.chance(10):
            side_head = f"aux {self.pick(['0.3', '1'])}: trunk -> GlobalAvgPool -> companion: Linear(classes)"
            body = f"let trunk = {steps[0]}{f' -> {steps[1]}' if steps[0] == 'in' else ''}\n  {side_head}\n  "
            body += "\n    -> ".join(["trunk", *steps[2 if steps[0] == "in" else 1 :]])
        title = self.pick(["", "", "## A random network.\n"])
        clauses = self.pick(["", "", "\n  train { epochs 3; lr 0.05 }"])
        params = [p for p in place.params if _reads(body, p.name)]
        if not params:
            return f"{title}net random on {shape} -> {classes} {{\n  {body}{clauses}\n}}"
        first, *others = (self.argument(p, Place()) for p in params)
        given = ", ".join([first, *(f"{p.name}={a}" for p, a in zip(params[1:], others, strict=True))])
        heads = ", ".join(p.name for p in params)
        family = f"{title}net family({heads}) on cifar10 {{\n  {body}{clauses}\n}}"
        return f"{family}\n\nnet random = family({given}) on {shape} -> {classes}"

    def stage(self, place: Place) -> str:
        """A stage of the network, which may end in a pool where the resolution allows it."""
        chain = self.chain(place, self.width(place), self.pick([None, "2", "1"]))
        if self.chance(25):
            pool = self.pick(["MaxPool(2)", "AvgPool(2)", "MaxPool(2, 1)", "AvgPool([1, 2], 2)"])
            chain += f" -> {{ if in.height >= 2 and in.width >= 2 then {pool} else Identity }}"
        return chain

    def head(self) -> str:
        hidden = self.pick(
            [
                "",
                "",
                "",
                "Linear(6) -> ReLU -> ",
                "Linear(classes + 1, bias=false) -> Dropout(0.5) -> ",
                "repeat 2 { Linear(5) -> ReLU } -> ",
                "repeat 3 as i { Linear(4 + i) } -> ",
                "sum 2 { Linear(5) } -> ",
                "concat { Linear(3), in } -> ReLU -> ",
                "{ in * (in -> Linear(in.channels)) } -> ",
                "mlp: [Linear(6), ReLU, Linear(3)] -> ",
            ]
        )
        last = self.pick(["Linear(classes)", "classifier: Linear(classes)"])
        return f"{self.pick(['GlobalAvgPool', 'GlobalAvgPool', 'Flatten'])} -> {hidden}{last}"

    # ---- definitions

    def fractal(self) -> str:
        """A block in terms of itself."""
        self.definitions.append(Definition("Fractal", "block", (Param("n", "count"),), True, False))
        kind = self.pick(["sum", "mean", "concat"])
        last = " -> Conv(width, 1)" if kind == "concat" else ""
        both = "Fractal(width, n - 1) -> Fractal(width, n - 1)"
        return (
            "block Fractal(width, n) {\n  if n <= 1\n    then conv: Conv(width, 3)\n"
            f"    else {kind} {{ conv: Conv(width, 3), {both} }}{last}\n}}"
        )

    def definition(self, name: str) -> str:
        style = self.pick(["block", "block", "block", "sequence", "flow"])
        width, stride = self.chance(75), self.chance(60)
        once = style == "flow" and self.chance(40)
        rest = style != "sequence" and self.chance(20)
        extras = self.draw(st.lists(st.sampled_from(_EXTRAS), max_size=3, unique_by=lambda p: p.name))
        params = [replace(p, default=self.pick([None, _DEFAULTS[p.kind]])) for p in extras]
        params += [Param("width", "channels")] if width else []
        params += [Param("stride", "stride", "1")] if stride else []
        # A flow's labels join those of the block around it, where the simple names may be taken.
        taken = set(_STEMS) if style == "flow" else set()
        place = Place(params=tuple(params), labels=taken, labelled=style != "flow" or once)
        target, step = ("width" if width else None), ("stride" if stride else None)
        if style == "sequence":
            body = f"[{', '.join(self.items(place, target, step))}]"
        elif rest:
            body = f"{{\n  {self.over_kernels(place, target, step)}\n}}"
        else:
            body = f"{{\n  {self.body(place, target, step)}\n}}"
        kept = sorted((p for p in params if _reads(body, p.name)), key=lambda p: p.default is not None)
        kept = [Param("kernels", "kernels"), *kept] if rest else kept
        extra = tuple(p for p in kept if p.name not in ("width", "stride"))
        names = {p.name for p in kept}
        self.definitions.append(Definition(name, style, extra, "width" in names, "stride" in names, once))
        doc = self.pick(
            ["", "", "## Some words on it.\n", '## In "quotes", with a \\ and more\n## on a second line.\n']
        )
        head = ", ".join(_declared(p) for p in kept)
        return f"{doc}{'flow' if style == 'flow' else 'block'} {name}({head}) {body}"

    def over_kernels(self, place: Place, width: str | None, stride: str | None) -> str:
        """A loop over a rest parameter."""
        names = {p.name for p in place.params}
        i = next(n for n in ("i", "j") if n not in names)
        inner = replace(self.inside(place, i, None), params=(*place.params, Param("side", "kernel")))
        flow = self.flow(inner, width, f"if {i} == 0 then {stride} else 1" if stride else None)
        if not _reads(flow, "side"):
            return f"repeat kernels.length {_as(i, flow)}{{ {flow} }}"
        return f"for {f'{i}, ' if _reads(flow, i) else ''}side in kernels {{ {flow} }}"

    def body(self, place: Place, width: str | None, stride: str | None) -> str:
        """The statements of a block or group."""
        way = self.pick(["flow", "flow", "let", "require", "share"])
        if way == "let":
            h = self.fresh("h")
            chain = self.chain(place, width, stride)
            again = self.inside(place, None, 2)
            last = self.pick(
                [
                    lambda: f"{h} + ({h} -> {self.chain(place, None, None)})",
                    lambda: f"{h} * ({h} -> {self.chain(place, None, None)})",
                    lambda: f"{h} + {h}",
                    lambda: f"{h} -> repeat 2 {{ {h} + (in -> {self.chain(again, None, None)}) }}",
                    lambda: f"{h} -> sum 2 {{ {h} * (in -> {self.chain(again, None, None)}) }}",
                ]
            )()
            return f"let {h} = in -> {chain}\n  {last}"
        if way == "require":
            name = self.fresh("c")
            text = f'let {name} = 2 * in.channels\n  require {name} >= 2, "there are {{{name}}}"\n  '
            return f"{text}{self.flow(place, width, stride)}"
        if way == "share" and place.labelled and not place.loops:
            return self.shared(place, width, stride)
        return self.flow(place, width, stride)

    # ---- chains

    def flow(self, place: Place, width: str | None, stride: str | None) -> str:
        """A chain as an expression."""
        chain = self.chain(place, width, stride)
        return f"in -> {chain}" if chain.startswith("{") else chain

    def chain(self, place: Place, width: str | None, stride: str | None) -> str:
        count = self.number(1, 3) if self.fuel > 0 else 1
        widths = [*(self.pick([None, self.width(place)]) for _ in range(count - 1)), width]
        at = self.number(0, count - 1)
        pieces = [self.piece(place, w, stride if i == at else None) for i, w in enumerate(widths)]
        if width is None and any(widths):
            h = self.fresh("h")
            return f"{{ let {h} = in; {h} -> {' -> '.join(pieces)} -> Conv({h}.channels, 1) }}"
        return " -> ".join(pieces)

    def piece(self, place: Place, width: str | None, stride: str | None) -> str:
        self.fuel -= 1
        ways = [self.leaf, self.leaf]
        if self.fuel > 0:
            ways += [self.use, self.choice, self.joined, self.loop, self.group, self.use, self.loop]
            ways += [self.residual, self.residual] if width is None and stride is None else []
        return self.pick(ways)(place, width, stride)

    def leaf(self, place: Place, width: str | None, stride: str | None) -> str:
        if width is None:
            return self.keep(place, stride)
        if stride is None and self.chance(8):
            if self.chance(30):
                return f"Conv(2 * ({width}), 1) -> Maxout(2)"
            return f"{{ PadChannels(in.channels + {self.number(0, 3)}) -> Conv({width}, 1) }}"
        if self.chance(15):
            return self.library_block(place, width, stride)
        return self.label(place, "conv", self.conv(place, width, stride))

    def keep(self, place: Place, stride: str | None) -> str:
        """A layer that keeps the channels; a convolution needs a group, as `in` is the input of the group around."""
        step = f", {stride}" if stride else ""
        layers = [f"MaxPool(3{step}, padding=1)", f"Subsample({stride})"] if stride else _KEEPS
        options = [*layers, "conv", "depthwise", "B", "bn"]
        match self.pick(options):
            case "conv":
                return f"{{ {self.label(place, 'conv', self.conv(place, 'in.channels', stride))} }}"
            case "depthwise":
                return f"{{ {self.label(place, 'dw', f'Conv(in.channels, 3{step}, groups=in.channels)')} }}"
            case "B":
                return self.label(place, "b", f"B(3, 1{f', stride={stride}' if stride else ''})")
            case "bn":
                subsample = f" -> Subsample({stride})" if stride else ""
                return f"{self.label(place, 'bn', 'BatchNorm')}{subsample}"
            case found:
                return found

    def conv(self, place: Place, width: str, stride: str | None) -> str:
        kernels = place.of("kernel")
        kernel = self.pick(kernels) if kernels and self.chance(60) else self.pick(_KERNELS)
        options = self.pick(["", "", "", ", bias=true", ", dilation=2", ", bias=false, dilation=[1, 2]"])
        return f"Conv({width}, {kernel}{f', {stride}' if stride else ''}{options})"

    def residual(self, place: Place, width: str | None, stride: str | None) -> str:
        chain = self.chain(place, None, None)
        flow = f"in -> {chain}" if chain.startswith("{") else chain
        h = self.fresh("h")
        before = self.pick(["ReLU", "Identity", "BatchNorm", "MaxPool(3, 1, padding=1)"])
        options = [
            f"{{ in + (in -> {chain}) }}",
            f"sum {{ in, {flow} }}",
            f"{{ in * (in -> {chain}) }}",
            f"{{ let {h} = in -> {before}; {h} + ({h} -> {chain}) + in }}",
            f"{{\n let {h} = {flow}\n {h} -> ReLU\n}}",
        ]
        return self.pick(options)

    def choice(self, place: Place, width: str | None, stride: str | None) -> str:
        """Only one arm is taken, so both may use the same names."""
        inner = replace(place, items=place.items and not place.loops)
        before = set(place.labels)
        first = self.chain(inner, width, stride)
        taken = set(place.labels)
        if self.chance(50):
            place.labels.intersection_update(before)
        second = self.chain(inner, width, stride) if self.chance(60) else self.leaf(inner, width, stride)
        place.labels.update(taken)
        # In a step, an arm is a step: it cannot begin with `in`.
        arms = [f"Identity -> {a}" if a.startswith("{") else a for a in (first, second)]
        return f"(if {self.condition(place)} then {arms[0]} else {arms[1]})"

    def joined(self, place: Place, width: str | None, stride: str | None) -> str:
        """Branches in braces, or side by side in a loop."""
        kind = self.pick(["sum", "sum", "mean", "concat"]) if width else self.pick(["sum", "mean"])
        last = f" -> Conv({width}, 1)" if kind == "concat" else ""
        match self.pick(["branches", "branches", "count", "list"]):
            case "branches":
                branches = [self.flow(place, width, stride) for _ in range(self.number(1, 3))]
                open_, between, close = self.pick([("{ ", ", ", " }"), ("{\n", "\n", "\n}")])
                if kind == "mean" and self.chance(50):
                    kind += self.pick(["(drop_path=0.2)", "(drop_path=0.1, one_column=0.5)", "(drop_path=0)"])
                return f"{kind} {open_}{between.join(branches)}{close}{last}"
            case "count":
                count, text = self.counted(place)
                index = self.index(place)
                inner = self.inside(place, index, count)
                flow = self.flow(inner, self.width(inner) if last and self.chance(30) else width, stride)
                return f"{kind} {text} {_as(index, flow)}{{ {flow} }}{last}"
            case _:
                n, index, w = self.number(1, 3), self.index(place), self.fresh("w")
                inner = self.inside(place, index, n)
                if kind != "concat":
                    inner = replace(inner, params=(*inner.params, Param(w, "kernel")))
                    values = [self.pick(["1", "3", "5"]) for _ in range(n)]
                    flow = self.flow(inner, width, stride)
                else:
                    values = [str(self.number(1, 8)) for _ in range(n)]
                    flow = self.flow(inner, w, stride)
                return f"{_over(kind, index, w, values, flow)}{last}"

    def loop(self, place: Place, width: str | None, stride: str | None) -> str:
        """Iterations one after the other; all but the first keep the resolution."""
        index = self.index(place)
        step = f"if {index} == 0 then {stride} else 1" if stride and index and self.chance(60) else None
        before = f"{self.leaf(place, None, stride)} -> " if stride and not step else ""
        if width and self.chance(35):
            n, w = self.number(1, 4), self.fresh("w")
            values = [*(str(self.number(1, 8)) for _ in range(n - 1)), width]
            flow = self.flow(self.inside(place, index, n), w, step)
            return f"{before}{_over('', index, w, values, flow)}"
        count, text = self.counted(place)
        inner = self.inside(place, index, count)
        grows = width is not None and self.chance(40)
        flow = self.flow(inner, self.width(inner) if grows else width, step)
        last = f" -> Conv({width}, 1)" if grows else ""
        return f"{before}repeat {text} {_as(index, flow)}{{ {flow} }}{last}"

    def group(self, place: Place, width: str | None, stride: str | None) -> str:
        style = self.pick(["plain", "list", "block"]) if place.can_label else "plain"
        if style == "plain":
            return f"{{ {self.body(place, width, stride)} }}"
        inner = replace(place, labels=set(), flows=set(), loops=(), items=True)
        if style == "list":
            return self.label(place, "list", f"[{', '.join(self.items(inner, width, stride))}]", must=True)
        return self.label(place, "group", f"{{ {self.body(inner, width, stride)} }}", must=True)

    def shared(self, place: Place, width: str | None, stride: str | None) -> str:
        """A module that is applied again and again."""
        name, h = self.fresh("shared"), self.fresh("h")
        block = f"Conv({h}.channels, 3)"
        blocks = [d for d in self.fitting(place, None, None) if d.style != "flow"]
        if blocks and self.chance(60):
            block = self.call(place, self.pick(blocks), f"{h}.channels", None)
        before = self.chain(place, width, stride)
        uses = self.pick(
            [
                f"{h} + ({h} -> {name}) + ({h} -> {name} -> {name})",
                f"{h} -> {name} -> ReLU -> {name}",
                f"{h} -> {name} -> repeat 3 {{ in + (in -> {name}) }}",
                f"{h} -> repeat 2 {{ {name} }} -> {name}",
                f"{h} -> sum 2 {{ ReLU -> {name} }}",
            ]
        )
        return f"let {h} = in -> {before}; share {name} = {block}; {uses}"

    # ---- numbered lists

    def items(self, place: Place, width: str | None, stride: str | None) -> list[str]:
        """One item has the stride, the same or a later one the width, and `in` is the input of the list."""
        count = self.number(1, 3)
        at = self.number(0, count - 1)
        last = self.number(at, count - 1)
        items = []
        for i in range(count):
            target = width if i == last else None
            step = stride if i == at else None
            if target is None and step is None:
                items.append(self.pick(_KEEPS))
            else:
                items.append(self.item(place, target or "in.channels", step))
        return items

    def item(self, place: Place, width: str, stride: str | None) -> str:
        options = [
            lambda: self.conv(place, width, stride),
            lambda: f"B(3, 1, width={width}{f', stride={stride}' if stride else ''})",
        ]
        fit = [d for d in self.fitting(place, width, stride) if d.style != "flow"]
        options += [lambda: self.call(place, self.pick(fit), width, stride)] * 2 if fit else []
        if not stride:
            options.append(lambda: f"repeat {self.counted(place)[1]} {{ {self.conv(place, width, None)} }}")
        return self.pick(options)()

    # ---- calls

    def use(self, place: Place, width: str | None, stride: str | None) -> str:
        """A definition of the file, a parameter that is a block, or a block of the library."""
        units = place.of("unit")
        if width and units and self.chance(60):
            unit = self.pick(units)
            return self.label(place, "unit", f"{unit}(width={width}{f', stride={stride}' if stride else ''})")
        fit = self.fitting(place, width, stride)
        if not fit or self.chance(20):
            return self.library_block(place, width, stride) if width else self.leaf(place, width, stride)
        chosen = self.pick(fit)
        if chosen.once:
            place.flows.add(chosen.name)
        call = self.call(place, chosen, width or "in.channels", stride)
        text = call if chosen.style == "flow" else self.label(place, "unit", call)
        return text if width else f"{{ {text} }}"

    def fitting(self, place: Place, width: str | None, stride: str | None) -> list[Definition]:
        """The definitions that can do what is asked."""

        def fits(d: Definition) -> bool:
            fresh = not d.once or (place.labelled and not place.loops and d.name not in place.flows)
            return fresh and (d.width or width is None) and (d.stride or stride is None)

        return [d for d in self.definitions if fits(d)]

    def call(self, place: Place, chosen: Definition, width: str, stride: str | None) -> str:
        args = [f"width={width}"] if chosen.width else []
        args += [f"stride={stride}"] if stride else []
        for p in chosen.params:
            if p.kind == "kernels":
                args.insert(0, self.pick(["3", "1, 3", "3, 1, 3", "*[3, 1]", "5, *[1], 3"]))
            elif p.default is None or self.chance(60):
                args.append(f"{p.name}={self.argument(p, place)}")
        return f"{chosen.name}({', '.join(args)})"

    def argument(self, param: Param, place: Place) -> str:
        same = place.of(param.kind)
        if same and self.chance(30):
            return self.pick(same)
        if param.kind == "unit":
            own = [d.name for d in self.definitions if d.style != "flow" and d.width and d.stride and not _needs(d)]
            return self.pick([*_ARGUMENTS["unit"], *own, *own])
        return self.pick(_ARGUMENTS[param.kind])

    def library_block(self, place: Place, width: str, stride: str | None) -> str:
        """The library's residual blocks, `B(...)` and `... x[k=n]`."""
        k = self.number(1, 4)
        kernels = ", ".join(self.pick(["3", "1", "5"]) for _ in range(self.number(1, 3)))
        step = f", stride={stride}" if stride else ""
        drop = self.pick(["", "", ", dropout=0.2"])
        times = self.pick(["", f"x[k={k}]", f" x[k={k}]"])
        options = [f"B({kernels}, width={width}{step}{drop}){times}", f"B({kernels}{drop})(width={width}{step}){times}"]
        if not stride:
            options.append(f"Conv({width}, 3)x[k={k}]")
            own = [d for d in self.fitting(place, width, None) if d.style != "flow"]
            if own:
                call = self.call(place, self.pick(own), width, None)
                options += [f"{call}x[k={k}]" if "k=" not in call else call, f"Residual({call}, k={k})"]
        return self.label(place, "res", self.pick(options))

    # ---- numbers and conditions

    def width(self, place: Place) -> str:
        """An expression for a number of channels."""
        if place.indices and self.chance(30):
            i = self.pick(place.indices)
            return self.pick(
                [f"{self.number(1, 4)} + {self.number(1, 3)} * {i}", f"2 + {i}", f"if {i} > 0 then 4 else 3"]
            )
        sizes = place.of("size", "channels")
        if sizes and self.chance(60):
            name = self.pick(sizes)
            return self.pick([name, f"2 * {name}", f"({name} + 1) // 2", f"{name} + 3"])
        if self.chance(5):
            return self.pick(["[5, 7, 4][1]", "[6, 2].length", "4.0 / 2", "7 % 4"])
        return str(self.number(1, 9))

    def condition(self, place: Place) -> str:
        options = ["in.channels > 4", "in.height >= 4 and in.width > 2", "in.channels == 3 or in.height < 5"]
        forms = {
            "flag": ["{}", "not {}"],
            "choice": ["{} == P", "{} != Q"],
            "channels": ["in.channels == {}", "{} != in.channels"],
            "stride": ["{} > 1", "{} == 1 and in.channels > 2"],
            "count": ["{} > 1", "{} in [1, 3]"],
        }
        own = [form.format(p.name) for p in place.params for form in forms.get(p.kind, ())]
        own += [f"{i} == 0" for i in place.indices]
        if own and self.chance(80):
            return self.pick(own)
        return self.pick(options)

    def counted(self, place: Place) -> tuple[int | None, str]:
        """The count of a loop, if it is known, and its text."""
        counts = place.of("count")
        if counts and self.chance(50):
            return None, self.pick(counts)
        n = self.number(1, 5)
        return n, str(n)

    def index(self, place: Place) -> str | None:
        names = {p.name for p in place.params}
        free = [i for i in ("i", "j", "index") if i not in place.indices and i not in names]
        return self.pick(free) if free and self.chance(70) else None

    def inside(self, place: Place, index: str | None, count: int | None) -> Place:
        """The inside of a loop."""
        indices = (*place.indices, index) if index else place.indices
        return replace(place, loops=(*place.loops, (index, count)), indices=indices)

    # ---- labels

    def label(self, place: Place, stem: str, module: str, must: bool = False) -> str:
        """A module with a label of any style, or without one."""
        if not place.can_label or (not must and self.chance(35)):
            return module
        name = self.fresh(stem)
        item = place.items and self.chance(50)
        match place.loops:
            case ():
                free = [n for n in _STEMS if n not in place.labels]
                if free and self.chance(50):
                    name = self.pick(free)
                    place.labels.add(name)
                    return f"{name}: {module}"
                return (
                    f"{self.pick([name, f'{name}[0]' if item else name, f'{name}{{{self.number(0, 3)}}}'])}: {module}"
                )
            case ((i, _),):
                number = i if item else self.pick([str(i), f"{i} + 1", f"{i} + 3", f"2 + {i}", f"2 * {i}"])
            case _:
                (i, _), (j, n) = place.loops
                number = f"{n} * {i} + {j}"
        return f"{name}[{number}]: {module}" if item else f"{name}{{{number}}}: {module}"


def _declared(param: Param) -> str:
    if param.kind == "kernels":
        return f"*{param.name}"
    if param.kind == "choice":
        return f"{param.name}: P | Q{f' = {param.default}' if param.default else ''}"
    return f"{param.name}{f'={param.default}' if param.default else ''}"


def _needs(definition: Definition) -> bool:
    """Whether a call must give more than a width."""
    return any(p.default is None for p in definition.params)


def _reads(text: str, name: str) -> bool:
    """Whether a text reads a name: not as an attribute, a label, the name of an argument or the x of `x[k=2]`."""
    return re.search(rf"(?<![.\w]){name}\b(?!=(?!=)|:|\[k=)", text) is not None


def _as(index: str | None, flow: str) -> str:
    """The index of a counted loop; one that is never read is an error."""
    return f"as {index} " if index and _reads(flow, index) else ""


def _over(kind: str, index: str | None, item: str, values: list[str], flow: str) -> str:
    """A loop over a list, or a counted one if its body reads no element."""
    if not _reads(flow, item):
        return f"{kind or 'repeat'} {len(values)} {_as(index, flow)}{{ {flow} }}"
    names = f"{index}, {item}" if index and _reads(flow, index) else item
    return f"{kind} for {names} in [{', '.join(values)}] {{ {flow} }}".lstrip()


_KERNELS = ["1", "3", "3", "5", "[1, 3]", "[3, 5]"]
_EXTRAS = [
    Param("inner", "size"),
    Param("size", "size"),
    Param("x", "size"),
    Param("n", "count"),
    Param("k", "count"),
    Param("i", "count"),
    Param("kernel", "kernel"),
    Param("gate", "flag"),
    Param("normalise", "flag"),
    Param("kind", "choice"),
    Param("make", "unit"),
    Param("in_channels", "size"),
    Param("forward", "size"),
]
_DEFAULTS = {"size": "4", "count": "2", "kernel": "3", "flag": "true", "choice": "P", "unit": "Conv(kernel=3)"}
_ARGUMENTS = {
    "size": [str(i) for i in range(1, 9)],
    "channels": [str(i) for i in range(1, 9)],
    "count": ["1", "2", "3", "4"],
    "kernel": ["1", "3", "[3, 1]", "5"],
    "flag": ["true", "false"],
    "choice": ["P", "Q"],
    "unit": ["Conv(kernel=3)", "Conv(kernel=[1, 3], bias=true)", "B(3, 3)", "B(1, dropout=0.2)x[k=2]"],
}


@st.composite
def specs(draw: Draw) -> str:
    """The text of a file with one network."""
    return Writer(draw).file()
