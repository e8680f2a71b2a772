"""The Python API: a network as an object, and as a live module."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from archdsl import driver
from archdsl.base.diagnostics import error
from archdsl.core.measure import Measure, measure

if TYPE_CHECKING:
    from torch import nn


class Architecture:
    """A network: its numbers, known without PyTorch, and its source."""

    def __init__(self, compiled: driver.Compiled) -> None:
        self._compiled = compiled
        self.network = compiled.network
        """The IR."""

    @cached_property
    def _measure(self) -> Measure:
        return measure(self.network)

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def spec(self) -> str:
        """The expression, with the data set that it reads."""
        return self.network.spec

    @property
    def params(self) -> int:
        """Number of learned parameters."""
        return self._measure.params

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers, for one image."""
        return self._measure.macs

    @property
    def depth(self) -> int:
        """Convolutions and linear layers on the longest path."""
        return self._measure.depth

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of an image: (C, H, W)."""
        return self.network.input.dims

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of the result for an image: (classes,) for a classifier."""
        return self.network.output.dims

    @property
    def classes(self) -> int | None:
        return self.network.classes

    def source(self) -> str:
        """The text of model.py. Raises ArchError if an `expect` of the spec fails."""
        self._compiled.check()
        return self._compiled.model()

    def train_source(self) -> str:
        """The text of train.py. Raises ArchError if an `expect` of the spec fails."""
        self._compiled.check()
        return self._compiled.train()

    def _repr_svg_(self) -> str:
        """The picture that a notebook shows."""
        from archdsl.drawing.diagram import diagram
        from archdsl.drawing.svg import svg

        return svg(diagram(self.network))

    def _repr_html_(self) -> str:
        """The same, which notebooks prefer."""
        return f"<div>{self._repr_svg_()}</div>"

    def __repr__(self) -> str:
        return f"<{self.spec}: {self.params:,} parameters>"


def load(spec: str, name: str | None = None) -> Architecture:
    """The network of a spec: a path to a .arch file, or an expression.

    A file of several networks needs the `name` of one. Raises ArchError.
    """
    found = driver.load(spec)
    chosen = [c for c in found if name in (None, c.network.name)]
    if len(chosen) != 1:
        names = ", ".join(c.network.name for c in found)
        raise error("nothing-here", None, name=f"{spec} under one name", help=f"its networks are {names}")
    return Architecture(chosen[0])


def build(spec: str, name: str | None = None, **where: object) -> nn.Module:
    """The network of a spec as a module with freshly drawn weights; needs PyTorch.

    `where` goes to its `build_model`: `devices` for a spec with `place { split 2 }`, `mesh` for one with `mesh`. Raises
    ArchError, and ImportError without PyTorch.
    """
    architecture = load(spec, name)
    namespace: dict[str, object] = {"__name__": f"archdsl_{architecture.name}"}
    exec(compile(architecture.source(), f"<{architecture.name}>", "exec"), namespace)
    make = namespace["build_model"]
    module: nn.Module = make(**where)  # type: ignore[operator]
    return module
