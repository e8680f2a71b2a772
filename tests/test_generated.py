"""Properties of generated files: clean, short, alone, deterministic, and they run."""

from __future__ import annotations

import ast
import csv
import sys
from pathlib import Path

import pytest
import torch
from support import GOLDEN, build, code_lines, network_of, ruff_clean, run, specs_in, succeed, tool
from support import SPECS as SPECS_FOLDER

from archdsl.core.recipe import untrainable
from archdsl.driver import load

DIGITS = GOLDEN / "family.arch"
SPECS = {
    "wrn": "WRN(16, 2, dropout=0.3)",
    "wrn_imagenet": "WRN(50, 2)",
    "resnet": "ResNet(20) on cifar100",
    "bottleneck": "ResNet(29, block=bottleneck) on svhn",
    "preresnet": "PreResNet(18) on 3x160x160 -> 37",
    "multi": "MultiResNet(8, k=2) on mnist",
    "fake": "MultiResNet(8, k=3, w=2) on fake",
    "digits": str(DIGITS),
    "loops": str(GOLDEN / "loops.arch"),
    "share": str(GOLDEN / "share.arch"),
}
PLACED = {
    "fused": "MultiResNet(14, k=4, w=2)",
    "split:2": "MultiResNet(18, k=2)",
    "mesh:2": "CrescendoNet() on 3x64x64 -> 37",
    "mesh:3": "B(3,3,dropout=0.1)x[k=3]",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.py and train.py of several networks, a folder each."""
    root = tmp_path_factory.mktemp("generated")
    for name, spec in SPECS.items():
        (root / name).mkdir()
        compiled = network_of(spec)
        (root / name / "model.py").write_text(compiled.model(), encoding="utf-8")
        (root / name / "train.py").write_text(compiled.train(), encoding="utf-8")
    for place, spec in PLACED.items():
        compiled = load(spec, place)[0]
        path = root / place.replace(":", "")
        path.mkdir()
        (path / "model.py").write_text(compiled.model(), encoding="utf-8")
        if not untrainable(compiled.network):
            (path / "train.py").write_text(compiled.train(), encoding="utf-8")
    return root


def test_ruff(folder: Path) -> None:
    ruff_clean(sorted(folder.rglob("*.py")))


def test_mypy(folder: Path) -> None:
    """mypy's defaults find nothing. One run for all: the scripts import a `model` each, so each is made a package."""
    for path in folder.rglob("*.py"):
        package = folder.parent / "typed" / f"net_{path.parent.name}"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        text = path.read_text(encoding="utf-8")
        (package / path.name).write_text(text.replace("from model import", "from .model import"), encoding="utf-8")
    tool("mypy", "--config-file=", ".", cwd=folder.parent / "typed")


def test_every_spec_is_clean(tmp_path: Path) -> None:
    """What the ready specs become is as ruff formats it, and mypy's defaults find nothing."""
    for path in specs_in(SPECS_FOLDER):
        for compiled in load(str(path)):
            package = tmp_path / f"net_{path.stem}_{compiled.network.name}"
            package.mkdir()
            (package / "__init__.py").touch()
            (package / "model.py").write_text(compiled.model(), encoding="utf-8")
            if not untrainable(compiled.network):
                text = compiled.train().replace("from model import", "from .model import")
                (package / "train.py").write_text(text, encoding="utf-8")
    tool("ruff", "format", "--check", "--isolated", tmp_path)
    models = sorted(tmp_path.rglob("model.py"))
    tool("ruff", "format", "--check", "--isolated", "--line-length=100", *models)
    tool("mypy", "--config-file=", ".", cwd=tmp_path)


def test_model_imports_torch_alone(folder: Path) -> None:
    for path in folder.rglob("model.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
        assert "torch" in found and found <= {"torch", "collections", "typing"}


def test_model_ends_with_build_model(folder: Path) -> None:
    """The last definition is `build_model`, and below it only what runs the file as a script."""
    for path in folder.rglob("model.py"):
        *_, last, script = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(last, ast.FunctionDef) and last.name == "build_model"
        assert isinstance(script, ast.If) and ast.unparse(script.test) == "__name__ == '__main__'"


def test_no_name_is_unread(folder: Path) -> None:
    """Every parameter of a generated function or `__init__` is read in it: no dead options."""
    for path in folder.rglob("model.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                assert {a.arg for a in node.args.args} - {"self", "ctx"} <= read, f"{path.parent.name}: {node.name}"


def test_no_path_of_this_machine(folder: Path) -> None:
    """A spec that is given by its absolute path leaves no trace of where it lies."""
    for path in folder.rglob("*.py"):
        assert str(GOLDEN.parent) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "spec",
    ["WRN(16, 1)", "ResNet(20)", "MultiResNet(8, k=2)", "PreResNet(18)", *(str(p) for p in GOLDEN.glob("*.arch"))],
)
def test_export_and_compile(spec: str) -> None:
    """torch.export and torch.compile take the whole model as one graph, and change nothing."""
    for compiled in load(spec)[:1]:
        model = build(compiled.model()).eval()
        dims = compiled.network.input.dims
        x = torch.randn(2, dims[0], *(min(d, 64) for d in dims[1:]))
        with torch.no_grad():
            expected = model(x)
            exported = torch.export.export(model, (x,)).module()
            torch.testing.assert_close(exported(x), expected)
            torch.compiler.reset()
            graph = torch.compile(model, fullgraph=True, backend="eager")
            torch.testing.assert_close(graph(x), expected)


def test_length_follows_distinct_blocks() -> None:
    short, long = (network_of(f"PreResNet({n}, block=bottleneck)").model() for n in (164, 1001))
    assert len(long.splitlines()) <= len(short.splitlines())


def test_length_of_a_very_deep_network() -> None:
    short, long = (network_of(f"PreResNet({n})").model() for n in (20, 6002))
    assert len(code_lines(long)) <= len(code_lines(short))
    assert len(long.splitlines()) <= len(short.splitlines())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_equal_input_gives_equal_bytes(spec: str) -> None:
    """Also in another process, where hashes of texts are salted otherwise."""
    mine = network_of(spec)
    script = (
        "import sys; from archdsl.driver import load; c = load(sys.argv[1])[0]; print(c.model() + c.train(), end='')"
    )
    assert succeed(sys.executable, "-c", script, spec) == mine.model() + mine.train()


def test_model_runs_as_a_script(folder: Path) -> None:
    compiled = network_of(SPECS["digits"])
    count = compiled.check().params
    printed = succeed(sys.executable, folder / "digits" / "model.py", cwd=folder.parent)
    assert printed == f"{count:,} parameters, output (1, 10)\n"


def test_a_choice_is_passed_on_as_its_word(tmp_path: Path) -> None:
    """Although its instances differ in their widths just as they do in it."""
    path = tmp_path / "words.arch"
    path.write_text(
        "block Unit(width, act: relu | elu) { Conv(width, 3) -> (if act == relu then ReLU else ELU) }\n"
        "net words on digits { Unit(4, relu) -> Unit(8, elu) -> Unit(8, relu) -> Unit(16, elu) -> GlobalAvgPool\n"
        "  -> Linear(classes) }\n"
    )
    text = load(str(path))[0].model()
    assert 'Unit(4, 8, act="elu")' in text and 'self.first_path = act == "relu"' in text


def test_a_network_beside_a_block_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cross.arch"
    path.write_text(
        "block Cross(width) { Conv(width, 3) -> ReLU }\n"
        "net cross on digits { Conv(8, 3) -> repeat 3 { Cross(8) } -> GlobalAvgPool -> Linear(classes) }\n"
    )
    text = load(str(path))[0].model()
    assert (
        "class CrossNet(nn.Module)" in text and "self.crosses = " in text and "for cross in" in text
    ) or "*(Cross" in text


# ---- training


TRAINED = """
net small on digits {
  Conv(8, 3, 2) -> BatchNorm -> ReLU -> Dropout(0.1) -> GlobalAvgPool -> Linear(classes)
  train { milestones [] }
}
"""
"""A rate that never falls: a schedule is stretched to the number of epochs, so it would depend on that."""


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _train(script: Path, *arguments: str | Path) -> str:
    return succeed(sys.executable, script, "--device=cpu", *arguments, cwd=script.parent.parent)


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network for digits, compiled."""
    root = tmp_path_factory.mktemp("trained")
    spec = root / "spec.arch"
    spec.write_text(TRAINED, encoding="utf-8")
    succeed(sys.executable, "-m", "archdsl", "compile", spec, "-o", root / "out")
    return root / "out"


def test_training_and_going_on(trainable: Path, tmp_path: Path) -> None:
    """Two epochs and one more are three."""
    script = trainable / "train.py"
    _train(script, "--epochs=2", "--run-dir", tmp_path / "a")
    rows = _rows(tmp_path / "a")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert (tmp_path / "a" / "checkpoint.pt").is_file()
    assert {"epoch", "train_loss", "test_loss", "test_error", "seconds"} <= set(rows[0])
    _train(script, "--epochs=3", "--resume", "--run-dir", tmp_path / "a")
    _train(script, "--epochs=3", "--run-dir", tmp_path / "b")
    resumed, whole = _rows(tmp_path / "a"), _rows(tmp_path / "b")
    assert [row["epoch"] for row in resumed] == ["1", "2", "3"]
    measured = ("train_loss", "test_loss", "test_error")
    assert [[r[m] for m in measured] for r in resumed] == [[r[m] for m in measured] for r in whole]


def test_checkpoint_of_another_network_is_refused(trainable: Path, tmp_path: Path) -> None:
    _train(trainable / "train.py", "--epochs=1", "--run-dir", tmp_path / "run")
    before = (tmp_path / "run" / "metrics.csv").read_text()
    succeed(sys.executable, "-m", "archdsl", "compile", "WRN(10, 1) on digits", "-o", tmp_path / "other")
    script = tmp_path / "other" / "train.py"
    done = run(sys.executable, script, "--device=cpu", "--epochs=2", "--resume", "--run-dir", tmp_path / "run")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "is a checkpoint of small on digits (" in done.stderr and "not of WRN(10, 1) on digits (" in done.stderr
    assert (tmp_path / "run" / "metrics.csv").read_text() == before


def test_nothing_to_resume(trainable: Path, tmp_path: Path) -> None:
    """One command starts a run and goes on with it, as a cluster wants it."""
    text = _train(trainable / "train.py", "--epochs=1", "--resume", "--run-dir", tmp_path / "none")
    assert "starting from the beginning" in text


def test_help_names_the_options(trainable: Path) -> None:
    text = succeed(sys.executable, trainable / "train.py", "--help")
    for option in ("--epochs", "--run-dir", "--data-dir", "--resume", "--seed", "--device"):
        assert option in text
