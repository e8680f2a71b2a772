"""A compiler for neural network architectures: `load` a spec, ask for its numbers and its source, `build` the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archdsl.base.diagnostics import ArchError
from archdsl.base.version import __version__

if TYPE_CHECKING:
    from archdsl.api import Architecture, build, load

__all__ = ["ArchError", "Architecture", "__version__", "build", "load"]


def __getattr__(name: str) -> object:
    # The parser is loaded when it is used, so that `archdsl --help` does not wait for it.
    if name in ("Architecture", "build", "load"):
        from archdsl import api

        return getattr(api, name)
    raise AttributeError(f"module 'archdsl' has no attribute {name!r}")
