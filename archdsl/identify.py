"""Which network has this many parameters? The library's own, exactly or with a mistake that people make when counting.

The networks are those of specs/std/known.arch; what is needed of each is kept in specs/std/known.csv, so that a look-up
elaborates nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from itertools import combinations
from typing import Any

from archdsl import resources
from archdsl.core.ir import Block, Network
from archdsl.core.measure import measure, measures, modules

SHORTCUTS = frozenset({"shortcut", "downsample"})
"""What the library calls the projections of residual blocks."""

HEADS = (10, 100, 1000, 1001)
"""Numbers of classes that heads are made for."""


@dataclass(frozen=True, slots=True)
class Known:
    """What of a network's parameters may be counted otherwise."""

    spec: str
    params: int
    classes: int
    features: int
    """Inputs of the last linear layer."""
    norms: int
    """Batch normalisations."""
    channels: int
    """Channels of all batch normalisations together."""
    outputs: int
    """Outputs of all convolutions without bias."""
    projections: int
    projected: int
    """Parameters of the projections in shortcuts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to count: what it is, and by how much the count differs."""

    text: str
    change: int


def known(network: Network) -> Known:
    """What of a network's parameters may be counted otherwise."""
    costs = measures(network.root)
    norms = channels = outputs = projections = projected = features = 0
    for path, step in modules(network.root):
        module = step.module
        name = path.rpartition(".")[2]
        if name in SHORTCUTS:
            projections += 1
            projected += costs[id(module)].params if isinstance(module, Block) else 0
        if isinstance(module, Block):
            continue
        args = dict(module.args)
        if module.kind == "BatchNorm":
            norms, channels = norms + 1, channels + step.output.channels
        elif module.kind == "Conv":
            outputs += step.output.channels if args["bias"] is False else 0
            if name in SHORTCUTS:
                kernel = args["kernel"]
                assert isinstance(kernel, int)
                groups = args["groups"]
                assert isinstance(groups, int)
                projected += step.output.channels * step.shapes[0].channels * kernel**2 // groups
        elif module.kind == "Linear":
            features = step.shapes[0].channels
    return Known(
        network.spec,
        measure(network).params,
        network.classes or 0,
        features,
        norms,
        channels,
        outputs,
        projections,
        projected,
    )


def table(networks: list[Network]) -> str:
    """The text of known.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f.name for f in fields(Known)])
    writer.writerows(astuple(known(network)) for network in networks)
    return out.getvalue()


def load_known() -> list[Known]:
    """The networks of known.csv."""
    text = (resources.folder("specs") / "std" / "known.csv").read_text(encoding="utf-8")
    return [Known(spec, *(int(n) for n in numbers)) for spec, *numbers in list(csv.reader(io.StringIO(text)))[1:]]


def readings(of: Known) -> Iterator[Reading]:
    """The mistakes that can be made in counting a network."""
    if of.projections:
        several = f"its {of.projections} projections" if of.projections > 1 else "its projection"
        yield Reading(f"without {several} in shortcuts ({of.projected:,} parameters)", -of.projected)
    if of.channels:
        yield Reading("with the running means and variances counted as parameters", 2 * of.channels)
        yield Reading("with all buffers of batch normalisation counted as parameters", 2 * of.channels + of.norms)
        yield Reading("without the parameters of batch normalisation", -2 * of.channels)
    if of.outputs:
        yield Reading("with biases in all convolutions", of.outputs)
    if of.features and of.classes:
        for classes in HEADS:
            if classes != of.classes:
                change = (classes - of.classes) * (of.features + 1)
                yield Reading(f"with a head of {classes:,} classes instead of {of.classes:,}", change)
        yield Reading("without its head", -of.classes * (of.features + 1))
        yield Reading("without the bias of its head", -of.classes)


def identify(figure: Fraction, digit: Fraction) -> list[dict[str, Any]]:
    """The networks with a count that rounds to a figure whose last digit is worth `digit`.

    Exact counts come first, then those with one mistake, then, for a full count, those with two.
    """

    def fits(count: int) -> bool:
        return figure - digit / 2 <= count < figure + digit / 2

    networks = load_known()
    found: list[dict[str, Any]] = [_row(of, ()) for of in networks if fits(of.params)]
    single = [(of, r) for of in networks for r in readings(of) if fits(of.params + r.change)]
    if digit > 1:
        return found or [_row(of, (r,)) for of, r in single]
    found += [_row(of, (r,)) for of, r in single]
    if not found:
        for of in networks:
            for pair in combinations(readings(of), 2):
                if fits(of.params + pair[0].change + pair[1].change) and _together(pair):
                    found.append(_row(of, pair))
    return _distinct(found)


def _together(pair: tuple[Reading, ...]) -> bool:
    """Whether two mistakes are about different things."""
    return not any(all(word in r.text for r in pair) for word in ("head", "batch norm", "running"))


def _distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each spec: the first, which needs the fewest mistakes."""
    return list({row["spec"]: row for row in reversed(rows)}.values())[::-1]


def _row(of: Known, mistakes: tuple[Reading, ...]) -> dict[str, Any]:
    count = of.params + sum(r.change for r in mistakes)
    return {"spec": of.spec, "params": of.params, "count": count, "mistakes": [r.text for r in mistakes]}


def nearest(figure: Fraction) -> list[dict[str, Any]]:
    """The three networks whose counts are nearest."""
    return [_row(of, ()) for of in sorted(load_known(), key=lambda of: abs(of.params - figure))[:3]]
