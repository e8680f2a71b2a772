"""What a `place` clause and `--place` say: where the functions of parallel sums run."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.base.diagnostics import ArchError, Note, error
from archdsl.base.source import Span
from archdsl.base.suggest import did_you_mean
from archdsl.core.ir import Network, Placement
from archdsl.core.placement import Sum

KINDS = ("fused", "split", "mesh")
MOST = 1024
"""Devices that share one sum; no machine has more."""

_FORMS = "a placement is fused, split:N or mesh:N, as in split:2"


def parse_placement(text: str) -> Placement:
    """The placement that `--place` asks for. Raises ArchError."""
    kind, colon, number = text.partition(":")
    count = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
    if colon and count is None:
        raise error("bad-place", None, problem=f"`{text}` has no number of devices after the colon", help=_FORMS)
    return placement_of(kind, count, None, None)


def placement_of(kind: str, devices: object, kind_span: Span | None, span: Span | None) -> Placement:
    """The placement of a kind over a number of devices (None: not given). Raises ArchError."""
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS) or _FORMS
        raise error("bad-place", kind_span, problem=f"`{kind}` is no placement", help=near)
    if kind == "fused":
        if devices is not None:
            raise error("bad-place", span, problem="`fused` is for one device, and takes no number")
        return Placement("fused")
    if devices is None:
        problem = f"`{kind}` needs a number of devices"
        raise error("bad-place", kind_span, problem=problem, help=f"for two, `{kind}:2`; in a spec, `{kind} 2`")
    if not isinstance(devices, int) or isinstance(devices, bool) or not 2 <= devices <= MOST:
        problem = f"`{kind}` divides functions over 2 to {MOST:,} devices, not {devices}"
        raise error("bad-place", span, problem=problem)
    return Placement("split" if kind == "split" else "mesh", devices)


def misplaced(network: Network, placement: Placement, found: Sequence[Sum], span: Span | None) -> ArchError:
    """The error of a placement that applies to no sum of a network."""
    reasons = tuple(dict.fromkeys(f"in {s.block.name}, {s.problem}" for s in found))
    problem = f"`{placement}` applies to nothing in {network.name}"
    if reasons:
        return error("bad-place", span, problem=problem, notes=tuple(Note(r) for r in reasons[:5]))
    help = "a parallel sum is `sum k { ... }` with k of 2 or more, or a residual block with k=2"
    return error("bad-place", span, problem=f"{problem}: it has no parallel sum", help=help)
