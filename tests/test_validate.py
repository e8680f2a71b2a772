"""Comparing a printed program with the IR: what the back end writes is accepted, and what is wrong in it is found."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support import network_of

from archdsl.backend.lower import Module, lower
from archdsl.backend.validate import Unfaithful, validate
from archdsl.core.ir import Network


def parts(spec: str) -> tuple[str, Module, Network]:
    compiled = network_of(spec)
    return compiled.model(), lower(compiled.network, {}), compiled.network


def compare(text: str, module: Module, network: Network) -> None:
    validate(text, [d.name for d in module.definitions], module.network, module.starts, network)


MUTATIONS = {
    "another kernel": ("WRN(16,2)", "width, 3, stride, padding=1", "width, 5, stride, padding=2"),
    "another stride": ("WRN(16,2)", "width, 3, stride, padding=1", "width, 3, padding=1"),
    "another width": ("WRN(16,2)", "nn.Linear(128, 10)", "nn.Linear(128, 11)"),
    "another number of channels": ("WRN(16,2)", "nn.BatchNorm2d(width)", "nn.BatchNorm2d(in_channels)"),
    "a bias more": ("WRN(16,2)", "padding=1, bias=False)", "padding=1)"),
    "a name": ("WRN(16,2)", "self.fc", "self.head"),
    "an activation less": ("WRN(16,2)", "x = F.relu(self.bn1(x), inplace=True)", "x = self.bn1(x)"),
    "another order": ("WRN(16,2)", "x = F.relu(self.bn1(x), inplace=True)", "x = self.bn1(F.relu(x))"),
    "a sum less": ("WRN(16,2)", "return out + identity", "return out"),
    "the shortcut of the input": ("WRN(16,2)", "self.shortcut(h)", "self.shortcut(x)"),
    "a product for a sum": ("ResNet(20)", "out + identity", "out * identity"),
    "another loop": ("ResNet(20)", "range(2)", "range(3)"),
    "other padding": ("ResNet(20)", "self.width - self.in_channels", "self.width"),
    "other pixels": ("ResNet(20)", ":: self.stride, :: self.stride]", ":: self.stride, ::1]"),
    "another pool": ("ResNet(18)", "F.max_pool2d(x, 3, stride=2, padding=1", "F.max_pool2d(x, 3, stride=2, padding=0"),
    "an input overwritten": (
        "WRN(16,2)",
        "h = F.relu(self.bn1(x), inplace=True)",
        "h = self.bn1(F.relu(x, inplace=True))",
    ),
    "a shortcut overwritten": ("WRN(16,2)", "self.conv1(h))", "self.conv1(F.relu(h, inplace=True)))"),
    "the wrong input": ("MultiResNet(14,2)", "function(h)", "function(x)"),
    "a module that is never used": (
        "MultiResNet(14,2)",
        "self.fc = ",
        "self.extra = nn.Linear(1, 1)\n        self.fc = ",
    ),
    "no auxiliary head": ("GoogLeNet()", "auxiliary.append", "len"),
    "another head in evaluation": (
        "GoogLeNet()",
        "return (x, *auxiliary) if self.training else x",
        "return (x, *auxiliary)",
    ),
    "another survival probability": ("StochasticDepth(20)", "Survival(survival)", "Survival(survival / 2)"),
}


@pytest.mark.parametrize("spec", sorted({spec for spec, _, _ in MUTATIONS.values()}))
def test_accepts(spec: str) -> None:
    compare(*parts(spec))


@pytest.mark.parametrize("what", MUTATIONS)
def test_finds(what: str) -> None:
    spec, old, new = MUTATIONS[what]
    text, module, network = parts(spec)
    assert old in text
    with pytest.raises(Unfaithful):
        compare(text.replace(old, new), module, network)


@pytest.mark.parametrize("starts", [(), (("LinearHighway", "gate", "-1"),), (("LinearHighway", "transform", "-2"),)])
def test_finds_biases_that_start_elsewhere(starts: tuple[tuple[str, str, str], ...]) -> None:
    text, module, network = parts("Highway(10)")
    with pytest.raises(Unfaithful, match="biases start"):
        compare(text, replace(module, starts=starts), network)


def test_runs_nothing_else() -> None:
    """Only the classes and functions that the back end wrote are run, without the builtins of Python."""
    text, module, network = parts("WRN(16,2)")
    compare(f"raise SystemExit\n{text}", module, network)
    with pytest.raises(Unfaithful, match="open"):
        compare(re.sub(r"super\(\).__init__\(\)", "open('/tmp/x', 'w')", text), module, network)
