"""What a `place` clause and `--place` say: where the functions of parallel sums run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from archdsl.base.diagnostics import ArchError, Note, error
from archdsl.base.source import Span
from archdsl.base.suggest import did_you_mean
from archdsl.core.ir import Network, Placement
from archdsl.core.placement import Sum
from archdsl.core.types import scalar_text

KINDS = ("fused", "split", "mesh")
MOST = 1024
"""Devices that share one sum; no machine has more."""

_OPTION = "`--place` takes none, fused, split:N or mesh:N, as in split:2"
_CLAUSE = "`place` takes fused, split N or mesh N, as in `place { split 2 }`"


def parse_placement(text: str) -> Placement | None:
    """The placement that `--place` asks for; None for `none`. Raises ArchError."""
    if text == "none":
        return None
    kind, colon, number = text.partition(":")
    count = int(number) if re.fullmatch("-?[0-9]{1,19}", number) else None
    if colon and count is None:
        raise error("bad-place", None, problem=f"`{text}` has no number of devices after the colon", help=_OPTION)
    return placement_of(kind, count, None, None)


def placement_of(kind: str, devices: object, kind_span: Span | None, span: Span | None) -> Placement:
    """The placement of a kind over a number of devices (None: not given). Raises ArchError."""
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS) or (_CLAUSE if kind_span else _OPTION)
        raise error("bad-place", kind_span, problem=f"`{kind}` is no placement", help=near)
    if kind == "fused":
        if devices is not None:
            raise error("bad-place", span, problem="`fused` is for one device, and takes no number")
        return Placement("fused")
    if devices is None:
        two = f"{kind} 2" if kind_span else f"{kind}:2"
        raise error("bad-place", kind_span, problem=f"`{kind}` needs a number of devices", help=f"for two, `{two}`")
    if not isinstance(devices, int) or isinstance(devices, bool) or not 2 <= devices <= MOST:
        problem = f"`{kind}` divides functions over 2 to {MOST:,} devices, not {scalar_text(devices)}"
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
