"""Random networks over the whole language: what the IR says of each is what PyTorch finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from random_specs import specs
from support import build, check_against_torch, check_semantics, compile_text, formatted, ruff_clean

from archdsl.core.measure import measure

# The examples are the same in every run, so that a change is judged by itself; drop `derandomize` to look for more.
quick = settings(
    deadline=None,
    max_examples=40,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


DEEPEST = 48
"""Layers on the longest path of a network whose values are compared."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


@quick
@given(text=specs())
def test_random_networks(folder: Path, text: str) -> None:
    """Counts, shapes, depth and values; both modes run; equal input gives equal bytes."""
    note(text)
    compiled = compile_text(text, folder)
    source = compiled.model()
    note(source)
    check_against_torch(compiled, source)
    # Deeper networks of products double every rounding error too often to compare values.
    if measure(compiled.network).depth <= DEEPEST:
        check_semantics(compiled, source)
    model = build(source)
    x = torch.randn(2, *compiled.network.input.dims)
    shape = (2, *compiled.network.output.dims)
    outputs = model.train()(x)
    assert (outputs[0] if compiled.network.heads else outputs).shape == shape
    assert model.eval()(x).shape == shape
    assert compile_text(text, folder).model() == source


@quick
@given(text=specs())
def test_random_formatting(folder: Path, text: str) -> None:
    """A formatted spec stays as it is, and means the same."""
    note(text)
    canonical = formatted(text)
    note(canonical)
    assert formatted(canonical) == canonical
    network, other = (compile_text(t, folder).network for t in (text, canonical))
    assert measure(network) == measure(other)
    assert network.output == other.output


def test_random_models_are_formatted(tmp_path: Path) -> None:
    """A sample is as ruff formats it; each file has its spec beside it."""
    files = []

    @settings(quick, max_examples=20)
    @given(text=specs())
    def write(text: str) -> None:
        path = tmp_path / f"model_{len(files)}.py"
        path.write_text(compile_text(text, tmp_path).model(), encoding="utf-8")
        path.with_suffix(".arch").write_text(text, encoding="utf-8")
        files.append(path)

    write()
    ruff_clean(files)
