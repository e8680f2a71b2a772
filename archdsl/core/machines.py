"""The machines that a training step is predicted for, with the numbers that their makers state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Of convolutions and linear layers. In tf32 numbers are stored as in fp32; bf16 and fp16 are by autocast."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device of the first kind: one rate of arithmetic, and a launch that costs as much as the device waits for."""

    name: str
    flops: float
    """Operations a second that convolutions reach, in single precision."""
    memory: float
    """Bytes a second to and from its memory."""
    link: float
    """Bytes a second to another device."""
    launch: float
    """Seconds to start an operation."""


@dataclass(frozen=True, slots=True)
class Card:
    """A device with matrix units, which a step may keep busy or wait for the host with."""

    name: str
    source: str
    """The data sheet of these numbers."""
    peaks: Mapping[Precision, float]
    """Operations a second at most, of dense matrices."""
    memory: float
    """Bytes a second to and from its memory."""
    link: float
    """Bytes a second to another device, one way."""
    processors: int
    """Streaming multiprocessors: tiles of a result that are computed at one time."""


Machine: TypeAlias = Accelerator | Card

MACHINES: dict[str, Machine] = {
    m.name: m
    for m in (
        # One of the two processors of a Tesla K80, of 2.8 TFLOPS, with the link of arXiv:1609.05672, section IV.D. That
        # convolutions of few channels reach a fifth, and the launches, are fitted to the residual networks of table V.
        Accelerator("k80", 0.2 * 2.8e12, 240e9, 16e9, 20e-6),
        Card(
            "a100",
            "NVIDIA A100 data sheet, SXM4 with 80 GB",
            {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12, "fp16": 312e12},
            2039e9,
            300e9,
            108,
        ),
        Card(
            "h100",
            "NVIDIA H100 data sheet, SXM5 with 80 GB; half of the rates that it states with sparsity",
            {"fp32": 67e12, "tf32": 494.5e12, "bf16": 989.5e12, "fp16": 989.5e12},
            3350e9,
            450e9,
            132,
        ),
        Card(
            "h200",
            "NVIDIA H200 data sheet, SXM with 141 GB; half of the rates that it states with sparsity",
            {"fp32": 67e12, "tf32": 494.5e12, "bf16": 989.5e12, "fp16": 989.5e12},
            4800e9,
            450e9,
            132,
        ),
    )
}


def precisions_of(machine: Machine) -> tuple[Precision, ...]:
    """The precisions that a machine has a rate for."""
    match machine:
        case Card():
            return tuple(machine.peaks)
        case Accelerator():
            return ("fp32",)
