"""Dense, grouped, stochastic and fractal networks: their structure, and what chance does in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import SPECS, build, check_against_torch, code_lines, compile_text, network_of
from torch import Tensor, nn

from archdsl.driver import load

FAMILIES = ["densenet", "resnext", "stochastic_depth", "swapout", "fractalnet", "crescendonet"]


def _keys(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in model.state_dict().items()]


def _part(module: nn.Module, name: str) -> Any:
    """A module inside another, with whatever attributes it has."""
    return module.get_submodule(name)


# ---- every baseline


@pytest.mark.parametrize("family", FAMILIES)
def test_baselines_can_be_read(family: str) -> None:
    """Every `expect` holds, and the model is short: nothing is written out that a loop can say."""
    for compiled in load(str(SPECS / "baselines" / f"{family}.arch")):
        compiled.check()
        assert len(code_lines(compiled.model())) < 220, compiled.network.name


SMALL = [
    "DenseNet(10, 4) on 3x32x32 -> 10",
    "DenseNet(10, 4, bc=true) on 3x32x32 -> 10",
    "DenseNet(16, 5, bc=true) on 1x28x28 -> 10",
    "ResNeXt(11, 2, 4) on 3x32x32 -> 10",
    "Swapout(8, 1)",
    "Swapout(14, 1) on digits",
    "FractalNet(columns=1)",
    "FractalNet(columns=2, dropout=0, drop_path=0)",
    "CrescendoNet(widths=[8, 16], scale=3, interval=2)",
]


@pytest.mark.parametrize("spec", SMALL)
def test_small_networks_learn(spec: str) -> None:
    """Every parameter of a small network takes part, in training mode."""
    torch.manual_seed(0)
    compiled = network_of(spec)
    check_against_torch(compiled)
    model = build(compiled.model())
    x = torch.randn(2, *compiled.network.input.dims)
    model(x).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("spec", "channels"),
    [("DenseNet(100, 12)", [400, 784, 1168]), ("DenseNet(100, 12, bc=true)", [216, 300, 342])],
)
def test_channels_of_dense_blocks(spec: str, channels: list[int]) -> None:
    """Each of n layers adds `growth` channels; compression halves them, rounded down."""
    model = build(network_of(spec).model(), "meta")
    seen = []
    for name, module in model.named_modules():
        if name.removeprefix("features.").startswith("denseblock") and name.count(".") == 1:
            module.register_forward_hook(lambda m, i, output: seen.append(output.shape[1]))
    model(torch.zeros(2, 3, 32, 32, device="meta"))
    assert seen == channels


def test_a_fractal_is_the_mean_of_its_columns() -> None:
    """Three columns join with one weight each, though the definition is recursive."""
    model = build(network_of("FractalNet()").model()).eval()
    block = _part(model, "block1")
    units = [m for m in block.children() if type(m).__name__ == "ConvUnit"]
    assert len(units) == 7
    for unit in units:  # a constant for every unit shows with which weight it reaches the output
        unit.register_forward_hook(lambda m, i, output: torch.zeros_like(output))
    last = [u for u in units if _reaches(block, u, units) > 0]
    assert len(last) == 3
    for unit in last:
        assert _reaches(block, unit, units) == pytest.approx(1 / 3)


def _reaches(block: nn.Module, unit: nn.Module, units: list[nn.Module]) -> float:
    handle = unit.register_forward_hook(lambda m, i, output: torch.ones_like(output))
    result: float = block(torch.zeros(1, 3, 8, 8)).max().item()
    handle.remove()
    return result


def test_a_crescendo_of_paths() -> None:
    """Path i of a block has `interval` times i + 1 convolutions, and the block is the mean of its paths."""
    model = build(network_of("CrescendoNet(widths=[8], scale=3, interval=2)").model()).eval()
    block = _part(model, "block1")
    paths = list(_part(block, "paths").children())
    assert [sum(isinstance(m, nn.Conv2d) for m in path.modules()) for path in paths] == [2, 4, 6]
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), torch.stack([path(x) for path in paths]).mean(0))


# ---- chance

SIGMAS = 5.0
"""A right rate is refused once in two million draws."""


def _close(found: float, probability: float, n: int) -> None:
    assert abs(found - probability) <= SIGMAS * (probability * (1 - probability) / n) ** 0.5 + 1e-9


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for name, stage in model.named_children():
        if name.startswith("layer"):
            yield from stage.children()


@pytest.fixture(scope="module")
def stochastic(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    text = "net deep = StochasticDepth(20, survival=0.4)\n"
    torch.manual_seed(0)
    return build(compile_text(text, tmp_path_factory.mktemp("spec")).model())


def test_survival_falls_linearly(stochastic: nn.Module) -> None:
    """Block l of L survives with probability 1 - l / L (1 - p)."""
    found = [_part(block, "drop").p for block in _blocks(stochastic)]
    assert found == pytest.approx([1 - i / 9 * 0.6 for i in range(1, 10)])


def test_blocks_are_dropped_as_often_as_they_should(stochastic: nn.Module) -> None:
    n = 2000
    one = torch.ones(3, 1, 1, 1)
    for block in _blocks(stochastic):
        drop = _part(block, "drop").train()
        drawn = torch.stack([drop(one) for _ in range(n)])
        assert set(drawn.unique().tolist()) <= {0.0, 1.0}  # not scaled
        assert (drawn == drawn[:, :1]).all()  # one draw for a whole batch
        _close(drawn[:, 0].mean().item(), drop.p, n)


def test_a_block_without_its_function_is_its_shortcut(stochastic: nn.Module) -> None:
    """In training a block is relu(F(x) + x) or relu(x); in evaluation it has the expectation of the sum."""
    torch.manual_seed(1)
    block = list(_blocks(stochastic))[4].eval()
    drop = _part(block, "drop")
    seen: list[Tensor] = []
    handle = _part(block, "bn2").register_forward_hook(lambda m, i, output: seen.append(output))
    x = torch.randn(2, 32, 4, 4).relu()
    with torch.inference_mode():
        torch.testing.assert_close(block(x), F.relu(drop.p * seen[0] + x))
        drop.train()
        drawn = [block(x) for _ in range(40)]
    handle.remove()
    kept, skipped = F.relu(seen[0] + x), x
    assert {torch.equal(y, kept) for y in drawn} == {True, False}
    assert all(torch.equal(y, kept) or torch.equal(y, skipped) for y in drawn)


def test_survival_of_one_is_a_residual_network(tmp_path: Path) -> None:
    text = "net whole = StochasticDepth(8, survival=1)\n"
    model = build(compile_text(text, tmp_path).model())
    for block in _blocks(model):
        drop = _part(block, "drop")
        assert torch.equal(drop.train()(torch.ones(2, 1, 2, 2)), drop.eval()(torch.ones(2, 1, 2, 2)))


@pytest.fixture(scope="module")
def swapout() -> nn.Module:
    torch.manual_seed(0)
    return build(network_of("Swapout(20, 1, keep=0.4)").model())


def test_masks_fall_linearly(swapout: nn.Module) -> None:
    for name in ("mask1", "mask2"):
        found = [_part(block, name).keep for block in _blocks(swapout)]
        assert found == pytest.approx([1 - i / 8 * 0.6 for i in range(9)])


def test_masks_keep_as_much_as_they_should(swapout: nn.Module) -> None:
    x = torch.ones(8, 16, 32, 32)
    for block in _blocks(swapout):
        mask = _part(block, "mask1").train()
        drawn = mask(x)
        assert set(drawn.unique().tolist()) <= {0.0, 1.0}  # not scaled
        _close(drawn.mean().item(), mask.keep, x.numel())
        for axis in range(4):  # one draw for every element: no axis shares them
            if 0 < mask.keep < 1:
                assert drawn.mean(axis).unique().numel() > 1
        assert torch.equal(mask.eval()(x), mask.keep * x)  # the expectation, exactly


def test_stochastic_inference_draws_masks(swapout: nn.Module) -> None:
    """With `stochastic`, evaluation draws too; the mean of many draws is the expectation (section 3)."""
    mask = _part(list(_blocks(swapout))[-1], "mask1").eval()
    x = torch.ones(200_000)
    mask.stochastic = True
    drawn = mask(x)
    mask.stochastic = False
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    _close(drawn.mean().item(), mask.keep, x.numel())


def test_the_two_masks_of_a_block_are_independent(swapout: nn.Module) -> None:
    torch.manual_seed(2)
    block = list(_blocks(swapout))[-1]
    one, two = (_part(block, name).train() for name in ("mask1", "mask2"))
    x = torch.ones(200_000)
    both = (one(x) * two(x)).mean().item()
    _close(both, one.keep * two.keep, x.numel())


def test_a_swapout_block_is_any_of_four(swapout: nn.Module) -> None:
    """Each element is 0, x, F(x) or x + F(x) in training, and the expectation in evaluation."""
    torch.manual_seed(3)
    block = list(_blocks(swapout))[-1].eval()
    one, two = (_part(block, name) for name in ("mask1", "mask2"))
    seen: list[Tensor] = []
    handle = _part(block, "conv2").register_forward_hook(lambda m, i, output: seen.append(output))
    x = torch.randn(4, 64, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), one.keep * x + two.keep * seen[0])
        one.train()
        two.train()
        y = block(x)
    handle.remove()
    f = seen[0]
    cases = [torch.isclose(y, case) for case in (torch.zeros_like(x), x, f, x + f)]
    assert torch.stack(cases).any(0).all()
    chances = (0.6 * 0.6, 0.4 * 0.6, 0.6 * 0.4, 0.4 * 0.4)
    for case, chance in zip(cases, chances, strict=True):
        _close(case.float().mean().item(), chance, x.numel())


@pytest.fixture(scope="module")
def fractal(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """Fractals of three and of two columns; a quarter of the batches take one column."""
    text = """flow Fractal(n) {
  if n == 1
    then Conv(2, 3)
    else mean(drop_path=0.3, one_column=0.25) { Conv(2, 3), Fractal(n - 1) -> Fractal(n - 1) }
}

net fractal on 1x4x4 -> 2 { block1: { Fractal(3) } -> block2: { Fractal(2) } -> GlobalAvgPool -> Linear(classes) }
"""
    torch.manual_seed(0)
    return build(compile_text(text, tmp_path_factory.mktemp("spec")).model())


def _weights(network: nn.Module, n: int) -> dict[str, Tensor]:
    """What the joins of a network gave their columns in n batches: rows of weights by the name of the join."""
    joins = {name: m for name, m in network.named_modules() if type(m).__name__ == "DropPath"}
    drawn: dict[str, list[Tensor]] = {name: [] for name in joins}
    for name, join in joins.items():
        draw: Any = join.weights

        def weights(columns: int, device: torch.device, rows: list[Tensor] = drawn[name], draw: Any = draw) -> Tensor:
            rows.append(draw(columns, device))
            return rows[-1]

        vars(join)["weights"] = weights
    with torch.inference_mode():
        for _ in range(n):
            network(torch.zeros(1, 1, 4, 4))
    for join in joins.values():
        del vars(join)["weights"]
    return {name: torch.stack(rows) for name, rows in drawn.items()}


def test_columns_are_left_out_as_often_as_they_should(fractal: nn.Module) -> None:
    n = 4000
    found = _weights(fractal.train(), n)
    assert sorted(rows.shape[1] for rows in found.values()) == [2, 2, 3]
    for rows in found.values():
        columns = rows.shape[1]
        assert torch.equal(rows.sum(1), torch.ones(n))  # never all, and the mean of those that are left
        assert all(row.unique().numel() <= 2 for row in rows)
        # Local: kept with 0.7, or the spare one of none; global, for the deepest join: one of all columns.
        none = 0.3**columns
        local = 0.7 + none / columns
        whole = 1 / 3 if columns == 3 else 1 / 3 + local / 3  # of two columns none is the third: drawn by itself
        for column in range(columns):
            _close((rows[:, column] > 0).float().mean().item(), 0.75 * local + 0.25 * whole, n)


def test_one_column_is_taken_everywhere(fractal: nn.Module) -> None:
    """Where one column is drawn, every join that it passes takes it alone."""
    joins = [m for m in fractal.modules() if type(m).__name__ == "DropPath"]
    for join in joins:
        join.one_column = 1.0
    rows = list(_weights(fractal.train(), 60).values())
    for join in joins:
        join.one_column = 0.25
    longest = next(r for r in rows if r.shape[1] == 3)
    for batch, weights in enumerate(longest):
        column = 2 - int(weights.argmax())  # counted from the deepest
        assert weights.tolist().count(1.0) == 1
        for shorter in (r[batch] for r in rows if r.shape[1] == 2 and column < 2):
            assert shorter.tolist() == [float(column == 1), float(column == 0)]


def test_a_join_is_the_mean_of_the_columns_that_survive(fractal: nn.Module) -> None:
    """In training by the weights that are drawn, and in evaluation of all columns."""
    join: Any = next(m for m in fractal.modules() if type(m).__name__ == "DropPath")
    columns = [torch.randn(2, 3, dtype=torch.float64) for _ in range(3)]
    drawn = torch.tensor([0.5, 0.0, 0.5])
    vars(join)["weights"] = lambda columns, device: drawn
    torch.testing.assert_close(join.train()(*columns), (columns[0] + columns[2]) / 2)
    torch.testing.assert_close(join.eval()(*columns), sum(columns) / 3)
    del vars(join)["weights"]


def test_a_network_of_joins_is_one_graph_in_training(fractal: nn.Module) -> None:
    graph = torch.compile(fractal.train(), fullgraph=True, backend="eager")
    graph(torch.zeros(2, 1, 4, 4)).sum().backward()


# ---- refused arguments

REFUSED: list[tuple[str, str]] = [
    ("DenseNet(41, 12)", "depth 41 is not 3n + 4, or 6n + 4 with bottlenecks"),
    ("DenseNet(43, 12, bc=true)", "depth 43 is not 3n + 4, or 6n + 4 with bottlenecks"),
    ("DenseNet(100) on imagenet", "depth 100 is not 121, 161, 169 or 201"),
    ("ResNeXt(30, 8, 64)", "depth 30 is not 9n + 2"),
    ("ResNeXt(29, 8, 64) on imagenet", "depth 29 is not 50, 101 or 152"),
    ("Swapout(21, 2)", "depth 21 is not 6n + 2"),
    ("Swapout(20, 2, keep=2)", "keep 2 is not a probability"),
    ("FractalNet(columns=0)", "a fractal has at least one column, and columns is 0"),
]


@pytest.mark.parametrize(("spec", "message"), REFUSED)
def test_refused(spec: str, message: str) -> None:
    with pytest.raises(Exception, match=message.replace("+", r"\+")):
        network_of(spec)
