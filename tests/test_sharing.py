"""One class for several instances: odd bodies whose loops, choices and lists once came out wrong.

Counts and shapes cannot see that two modules were exchanged, so every parameter must receive a gradient as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import check_semantics, network_of

import archdsl
from archdsl.core.measure import modules

HEAD = "GlobalAvgPool -> Linear(classes)"
SPECS = {
    "count with a parameter in nested loops": f"""
        block U(n) {{ sum 2 {{ repeat n + 1 {{ Conv(8, 3) -> ReLU }} }} }}
        net m on digits {{ Conv(8, 3) -> U(1) -> U(2) -> {HEAD} }}""",
    "list in a repeat": f"net m on digits {{ repeat 2 {{ for w in [8, 16] {{ Conv(w, 3) }} }} -> {HEAD} }}",
    "repeat in a list": f"""
        block S(n) {{ for w in [1, 3] {{ repeat n {{ Conv(8, w) }} }} }}
        net m on digits {{ Conv(8, 3) -> S(1) -> S(2) -> {HEAD} }}""",
    "widths that rise in an inner loop": f"""
        net m on digits {{ sum 3 as i {{ for j in [1, 3] {{ Conv(j, 1) }} -> Conv(4, 2 * i + 1) }} -> {HEAD} }}""",
    "concatenation of rising widths": f"""
        block U(w) {{ concat 3 as i {{ repeat 2 as j {{ Conv(j + 1, 1) }} -> Conv(w, 2 * i + 1) }} }}
        net m on digits {{ Conv(8, 3) -> U(4) -> U(8) -> {HEAD} }}""",
    "choice by index": f"""
        block U(n) {{ repeat 2 as i {{ Conv(8, 3) -> (if i == n then ReLU else Conv(8, 1)) }} }}
        net m on digits {{ Conv(8, 3) -> U(0) -> U(1) -> {HEAD} }}""",
    "choice by shape in a loop": f"""
        block H(w) {{ Conv(w, 3) -> BatchNorm -> ReLU }}
        block U(w) {{ repeat 2 {{ ReLU -> (if in.channels == w then H(2 * w) else Conv(4, 1)) }} }}
        net m on digits {{ Conv(4, 3) -> U(4) -> U(8) -> U(4) -> {HEAD} }}""",
    "one name for two places": f"""
        block H(w) {{ Conv(w, 3) -> ReLU }}
        block U(w, f) {{
          (if in.channels == w then H(2 * w) else Identity) -> (if f then H(4) else Conv(4, 3)) -> Conv(w, 1)
        }}
        net m on digits {{ Conv(4, 3) -> U(4, false) -> U(8, false) -> U(5, true) -> {HEAD} }}""",
    "sum of sums": f"""
        block U(n) {{ sum n {{ ReLU -> sum 3 {{ Conv(4, 3) -> Sigmoid -> Conv(4, 1) }} -> Conv(4, 1) }} }}
        net m on digits {{ Conv(4, 3) -> U(2) -> U(3) -> {HEAD} }}""",
    "progression inside a repeat": f"""
        block U(w) {{ concat 2 {{ mean 3 as i {{ ReLU -> BatchNorm -> Conv(w, 2 * i + 1) }} -> Conv(w, 1) }} }}
        net m on digits {{ Conv(4, 3) -> U(8) -> U(4) -> {HEAD} }}""",
    "progression with a parameter": f"""
        block P(w) {{ repeat 3 as i {{ Conv(w + 2 * i, 3) }} }}
        net m on digits {{ Conv(8, 3) -> P(8) -> P(16) -> {HEAD} }}""",
    "lists in arms": f"""
        net m on digits {{
          Conv(8, 3) -> concat 4 as i {{ if i % 2 == 0 then Conv(4, 3) else (ReLU -> Conv(4, 1)) }} -> {HEAD}
        }}""",
    "names that Python has": f"""
        block range(lambda, self=3) [ Conv(lambda, self), repeat 2 {{ Conv(lambda, 3) }} ]
        block Tensor(width, out=1) {{
          let terms = in -> i: Conv(width, 3)
          let nn = terms -> x: Conv(width, out)
          nn + terms
        }}
        net m on digits {{ Conv(4, 3) -> a: range(4) -> b: range(8, 1) -> Tensor(4) -> Tensor(6, 3) -> {HEAD} }}""",
}


@pytest.mark.parametrize("case", SPECS)
def test_every_instance_has_its_own(case: str, tmp_path: Path) -> None:
    path = tmp_path / "m.arch"
    path.write_text(SPECS[case])
    architecture = archdsl.load(str(path))
    torch.manual_seed(0)
    model = archdsl.build(str(path)).train()
    assert sum(p.numel() for p in model.parameters()) == architecture.params
    names = {name for name, _ in modules(architecture.network.root)}
    assert names <= {name for name, _ in model.named_modules()}
    output = model(torch.rand(2, 1, 8, 8))
    assert output.shape == (2, 10)
    output.square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert not idle, f"no gradient reaches {idle}"
    check_semantics(network_of(str(path)))
