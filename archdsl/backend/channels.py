"""Where the channels of a layer's input come from: the width of the layer before it, or the sum of what is joined.

A number may equal several parameters by chance; that of the layer before is the one that is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from archdsl.backend.merge import (
    ApplyPart,
    HeadPart,
    LayerPart,
    LoopPart,
    Part,
    RegionPart,
    SelectPart,
    SequencePart,
    Slot,
    UnrolledPart,
)
from archdsl.core.ir import Block, Ref

Channels: TypeAlias = "tuple[Slot, ...] | None"
"""Numbers whose sum is the channels of a value; None where that is not known."""

_WIDENING = frozenset({"Conv", "Linear", "PadChannels"})
_OTHER = frozenset({"Maxout", "Flatten"})


def traced(region: RegionPart, variants: Sequence[Block]) -> RegionPart:
    """The body of a class with the source of every number of input channels that has one."""
    channels = Slot(tuple(v.input.channels for v in variants), "in_channels")
    return _region(region, 0, {Ref(0, 0): (channels,)})[0]


def _region(region: RegionPart, level: int, outer: dict[Ref, Channels]) -> tuple[RegionPart, Channels]:
    known = dict(outer)
    parts: list[Part] = []
    for i, part in enumerate(region.parts, 1):
        done, known[Ref(level, i)] = _part(part, level, known)
        parts.append(done)
    return replace(region, parts=tuple(parts)), known[region.output]


def _part(part: Part, level: int, known: dict[Ref, Channels]) -> tuple[Part, Channels]:
    match part:
        case ApplyPart(module=LayerPart() as layer):
            inputs = [known[r] for r in part.inputs]
            args = tuple(
                (name, replace(term, source=inputs[0]))
                if name == "in_channels" and isinstance(term, Slot) and inputs[0]
                else (name, term)
                for name, term in layer.args
            )
            return replace(part, module=replace(layer, args=args)), _after(layer, inputs)
        case ApplyPart(module=SequencePart() as listed):
            body, channels = _region(listed.region, 0, {Ref(0, 0): known[part.inputs[0]]})
            return replace(part, module=replace(listed, region=body)), channels
        case ApplyPart():
            return part, None
        case SelectPart():
            arms = [_region(arm, level + 1, known) if arm else None for arm in part.arms]
            found = [arm[1] for arm in arms if arm]
            same = found[0] if all(c == found[0] for c in found) else None
            return replace(part, arms=(arms[0] and arms[0][0], arms[1] and arms[1][0])), same
        case HeadPart():
            return HeadPart(_region(part.region, level + 1, known)[0]), None
        case LoopPart():
            # What an iteration reads may be what another has made.
            body, _ = _region(part.body, level + 1, {**known, Ref(level + 1, 0): None})
            return replace(part, body=body), None
        case UnrolledPart():
            bodies = [
                (_region(body, level + 1, {**known, Ref(level + 1, 0): None})[0], count) for body, count in part.parts
            ]
            return replace(part, parts=tuple(bodies)), None


def _after(layer: LayerPart, inputs: list[Channels]) -> Channels:
    """The channels of the result of a layer."""
    if layer.kind in _WIDENING:
        width = dict(layer.args)["width"]
        return (width,) if isinstance(width, Slot) else None
    if layer.kind == "concat":
        return None if any(c is None for c in inputs) else tuple(s for c in inputs if c for s in c)
    return None if layer.kind in _OTHER else inputs[0]
