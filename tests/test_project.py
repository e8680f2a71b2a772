"""The project itself: layers, what the compiler may know, and what an installation must contain."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from torch import nn

from archdsl.backend.spelling import SPELLINGS
from archdsl.core.names import MODULE_ATTRIBUTES
from archdsl.core.primitives import PRIMITIVES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "archdsl"

LAYERS = {
    "base": set(),
    "core": {"base"},
    "frontend": {"base", "core", "resources", "cache"},
    "backend": {"base", "core", "resources"},
    "editor": {"base", "core", "frontend", "resources", "driver"},
}
"""Folder -> what it may import of archdsl, beside itself."""


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    files = sorted((PACKAGE / layer).glob("*.py"))
    assert files
    for path in files:
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] == "archdsl" and len(parts) > 1:
                assert parts[1] in LAYERS[layer] | {layer}, f"{path.name} imports {name}"


def test_examples_in_docstrings() -> None:
    """Every `>>>` of the package."""
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            name = ".".join(("archdsl", *path.relative_to(PACKAGE).with_suffix("").parts))
            result = doctest.testmod(importlib.import_module(name))
            assert result.failed == 0 and result.attempted, name
            found += result.attempted
    assert found > 20


def test_the_compiler_names_no_architecture() -> None:
    families = r"resnet|densenet|googlenet|fractal|\bwrn\b|\bvgg\b|alexnet|highway|swapout|polynet|maxout_net"
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "templates").rglob("*.*"), *(ROOT / "grammars").iterdir()]
    assert len(sources) > 30
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not re.search(families, text, re.IGNORECASE), path


def test_two_tables_have_the_same_primitives() -> None:
    assert SPELLINGS.keys() == PRIMITIVES.keys()
    for name, primitive in PRIMITIVES.items():
        spelling = SPELLINGS[name]
        assert bool(spelling.module) >= primitive.needs_module, name
        assert spelling.module or spelling.apply, name


def test_labels_cannot_hide_what_every_module_has() -> None:
    public = {name for name in dir(nn.Module()) if not name.startswith("_")}
    assert public <= MODULE_ATTRIBUTES


def _run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_counting_never_imports_torch() -> None:
    code = (
        "import sys; from archdsl.cli import cli;"
        "cli(['params', 'WRN(28,10)'], standalone_mode=False);"
        "bad = {'torch', 'numpy', 'jinja2'} & set(sys.modules); assert not bad, bad"
    )
    done = _run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "36,479,194" in done.stdout


def test_compiling_never_imports_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from archdsl.cli import cli;"
        f"cli(['compile', 'WRN(28,10)', '-o', {str(tmp_path)!r}], standalone_mode=False);"
        "assert 'torch' not in sys.modules"
    )
    done = _run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.py").exists()


@pytest.fixture(scope="module")
def plain_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees this one's libraries, but not its archdsl."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    here = Path(pytest.__file__).resolve().parents[1]
    for name in ("lark", "jinja2", "click", "markupsafe"):
        (site / name).symlink_to(here / name)
    return folder


@pytest.mark.parametrize("mode", ["wheel", "editable"])
def test_an_installation_is_whole(mode: str, plain_environment: Path, tmp_path: Path) -> None:
    python = plain_environment / "bin" / "python"
    if mode == "wheel":
        command = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
        built = _run(*command)
        assert built.returncode == 0, built.stdout + built.stderr
        target = [str(next(tmp_path.glob("*.whl")))]
        installed = _run(str(python), "-m", "pip", "install", "--no-deps", "--no-index", "--force-reinstall", *target)
        assert installed.returncode == 0, installed.stderr
    else:
        # What an editable install leaves behind: a path file that names the checkout.
        _run(str(python), "-m", "pip", "uninstall", "-y", "archdsl")
        site = next((plain_environment / "lib").glob("python*/site-packages"))
        (site / "archdsl.pth").write_text(f"{ROOT}\n")
    away = tmp_path / "away"
    away.mkdir()
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": ""}
    run = [str(python), "-m", "archdsl", "compile", "WRN(16,1) on digits", "-o", "out"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=away, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (away / "out").iterdir()) == ["model.py", "train.py"]
    trained = _run(sys.executable, "out/train.py", "--epochs", "1", cwd=away)
    assert trained.returncode == 0, trained.stderr
    assert (away / "out" / "run" / "metrics.csv").read_text().count("\n") == 2


def test_it_speaks_of_itself_alone() -> None:
    listed = _run("git", "ls-files", cwd=ROOT)
    files = [ROOT / name for name in listed.stdout.split()] or [p for p in ROOT.rglob("*.py") if ".venv" not in p.parts]
    pattern = re.compile(r"/(work|farm)/|pypi\.org|files\.pythonhosted")
    for path in files:
        if path.suffix in (".py", ".md", ".arch", ".j2", ".toml", ".lark") and path != Path(__file__).resolve():
            assert not pattern.search(path.read_text(encoding="utf-8")), path


def test_the_licence_travels(tmp_path: Path) -> None:
    """Whoever has the wheel or the sources has the licence; its name stands in the metadata of both."""
    built = _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        assert "License-Expression: Apache-2.0\n" in wheel.read(metadata).decode()
        (licence,) = (name for name in names if name.endswith("LICENSE"))
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sources:
        assert any(name.endswith("/LICENSE") for name in sources.getnames())
