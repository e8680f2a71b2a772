"""Names: the definitions of a file, what it imports, and the standard library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from archdsl import resources
from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, Gathering, Label, arranged, diagnose, error
from archdsl.base.source import Source, Span
from archdsl.base.suggest import did_you_mean
from archdsl.core.data import DATA_SETS, DataSet
from archdsl.core.primitives import OPERATORS, PRIMITIVES, Primitive
from archdsl.frontend import syntax
from archdsl.frontend.checks import mistakes
from archdsl.frontend.parser import readable
from archdsl.frontend.syntax import Block, Definition, Net, Recipe

Global = Block | Net | Recipe | Primitive | DataSet

Texts = Mapping[Path, str]
"""Files as they stand in an editor, which need not be as they are saved."""

_DEFINITION = re.compile(r"^(net|block|flow|recipe) ([A-Za-z_]\w*)\b(?! *=)", re.MULTILINE)
_HEAD = re.compile(r"\b(?:net|block|flow|recipe|def|class|import)\s+(\w+(?:\s*,\s*\w+)*)")
"""Names that an item gives a meaning, also one that is not in the language."""
_SHARED_BLOCKS = "blocks.arch"
"""The library file whose blocks every spec sees; of the other library files a spec sees the nets and recipes."""


@dataclass(eq=False)
class Module:
    """A file and the names it sees."""

    file: syntax.File
    names: dict[str, tuple[Definition, Module]] = field(default_factory=dict)
    """Name -> definition and the module in which it was written."""
    problems: list[Diagnostic] = field(default_factory=list)
    """What is wrong with it without evaluation."""
    unread: str = ""
    """The text of its items that cannot be read."""

    @cached_property
    def digest(self) -> str:
        """The hash of its text. Where it runs is left out: a checkpoint moves between placements."""
        text = self.file.source.text
        for item in reversed(self.file.items):
            body = item.clauses if isinstance(item, syntax.NamedNet) else getattr(item, "body", ())
            for clause in reversed([s for s in body if isinstance(s, syntax.Place)]):
                text = f"{text[: clause.span.start].rstrip()}{text[clause.span.end :]}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def missing(self) -> set[str]:
        """The names that it would define if all of it could be read."""
        return {name for names in _HEAD.findall(self.unread) for name in re.findall(r"\w+", names)}


class Library:
    """Loads each file once; the standard library on demand, by name."""

    def __init__(self, texts: Texts | None = None) -> None:
        self._texts = texts or {}
        self._modules: dict[Path, Module] = {}
        self._loading: list[Path] = []
        self._read = 0
        """Characters of the files that were imported."""
        self._homes: dict[int, Module] = {}
        self._folder: Path | None = None
        """The folder of the spec, outside of which nothing is read."""

    def module(self, source: Source, folder: Path | None) -> Module:
        """The module of a text; `folder` is where its imports are looked for. Raises ArchError."""
        module = self.examined(source, folder)
        if module.problems:
            raise ArchError(*arranged(module.problems, source))
        return module

    def examined(self, source: Source, folder: Path | None) -> Module:
        """The same with its problems, for others to be found beside them. Raises ArchError beyond the limits."""
        reading = readable(source)
        module = Module(reading.file, problems=[*reading.problems], unread=reading.unread)
        self._folder = self._folder or (folder.resolve() if folder else None)
        self._define(module, folder)
        if not source.library:
            module.problems += mistakes(self, module)
        return module

    def load(self, path: Path, library: bool = False) -> Module:
        """The module of a file. Raises ArchError, also where files import each other in a circle."""
        path = path.resolve()
        if path not in self._modules:
            source = self.source(path, library)
            self._read += 0 if library else len(source.text)
            if self._read > limits.ALL_SOURCE:
                raise error("too-large", None, problem=f"more than {limits.ALL_SOURCE:,} characters are imported")
            self._loading.append(path)
            try:
                self._modules[path] = self.module(source, path.parent)
            finally:
                self._loading.pop()
        return self._modules[path]

    def find(self, name: str, module: Module) -> tuple[Global, Module] | None:
        """What a name means at the top level of a module."""
        if name in module.names:
            return module.names[name]
        if name in PRIMITIVES and name not in OPERATORS:
            return PRIMITIVES[name], module
        if name in (exported := library_index()):
            return self.load(exported[name], library=True).names[name]
        return (DATA_SETS[name], module) if name in DATA_SETS else None

    def home(self, definition: object) -> Module | None:
        """The module in which a definition was written."""
        return self._homes.get(id(definition))

    def known(self, module: Module) -> list[str]:
        """Every name visible at the top level of a module."""
        return [*module.names, *(PRIMITIVES.keys() - OPERATORS), *library_index(), *DATA_SETS]

    def _define(self, module: Module, folder: Path | None) -> None:
        parts = Gathering()
        for item in module.file.items:
            if isinstance(item, syntax.Import):
                with parts:
                    self._import(module, item, folder)
            elif isinstance(item, Block | Net | Recipe):
                if item.name in module.names:
                    first = (Label(module.names[item.name][0].name_span, "first here"),)
                    parts.found.append(diagnose("defined-twice", item.name_span, name=item.name, secondary=first))
                elif (item.name in PRIMITIVES or item.name in DATA_SETS) and not module.file.source.library:
                    parts.found.append(diagnose("shadowed", item.name_span, "built in under this name", name=item.name))
                module.names[item.name] = (item, module)
                self._homes[id(item)] = module
        module.problems += parts.found

    def imported(self, text: str, folder: Path | None, span: Span | None = None) -> Path:
        """The file that an import names. Raises ArchError for one that cannot be read, or may not."""
        in_library = text.startswith("std/")
        root = (resources.folder("specs") if in_library else folder or Path.cwd()).resolve()
        try:
            path = (root / text).resolve()
            is_special = path.exists() and not path.is_file()
        except (OSError, ValueError, RuntimeError) as problem:  # RuntimeError: links that go in a circle
            raise error("no-file", span, name=text, reason="no such file") from problem
        if not path.is_relative_to(root if in_library else self._folder or folder or Path.cwd()):
            help = "put the file beside the spec, or in a folder below"
            raise error("outside", span, file=text, help=help)
        if is_special:
            raise error("no-file", span, name=text, reason="not a file")
        return path

    def source(self, path: Path, library: bool = False) -> Source:
        """The text of a file, as it stands in an editor where it does. Raises ArchError if it cannot be read."""
        name = f"std/{path.name}" if library else _shown(path)
        return Source(name, self._texts[path], library) if path in self._texts else read(path, name, library)

    def _import(self, module: Module, item: syntax.Import, folder: Path | None) -> None:
        text = item.path.value
        in_library = text.startswith("std/")
        path = self.imported(text, folder, item.path.span)
        if path in self._loading:
            raise error("import-cycle", item.path.span, file=text)
        if len(self._modules) + len(self._loading) >= limits.FILES:
            raise error("too-large", item.path.span, problem=f"more than {limits.FILES} files are imported")
        try:
            other = self.load(path, library=in_library)
        except ArchError as problem:
            first = problem.diagnostics[0]
            if first.key == "no-file" and first.primary is None:
                raise error("no-file", item.path.span, name=text, reason="no such file") from None
            if first.primary is None:
                raise ArchError(replace(first, primary=Label(item.path.span))) from None
            raise
        for name in item.names:
            found = other.names.get(name.name)
            if found is None:
                nearest = did_you_mean(name.name, other.names)
                raise error("bad-import", name.span, file=text, name=name.name, help=nearest)
            module.names[name.name] = found


def read(path: Path, name: str, library: bool = False) -> Source:
    """A file as a source. Raises ArchError without a span if it cannot be read."""
    try:
        if path.is_fifo() and not str(path).startswith("/dev/"):
            raise error("no-file", None, name=name, reason="not a file")  # it might never end
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(limits.SOURCE + 1)
        if len(text) > limits.SOURCE:
            raise error("too-large", None, problem=f"{name} has more than {limits.SOURCE:,} characters")
        return Source(name, text, library)
    except UnicodeDecodeError:
        raise error("not-text", None, name=name) from None
    except OSError as problem:
        raise error("no-file", None, name=name, reason=(problem.strerror or "unreadable").lower()) from None
    except ValueError:
        raise error("no-file", None, name=name, reason="this is no name of a file") from None


def _shown(path: Path) -> str:
    """A path as a person would type it: relative to here where it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


@cache
def library_index() -> dict[str, Path]:
    """Name -> file of what the standard library shows to every spec. Finds the heads of definitions, parses nothing."""
    index = {}
    for path in sorted((resources.folder("specs") / "std").glob("*.arch")):
        for keyword, name in _DEFINITION.findall(path.read_text(encoding="utf-8")):
            if keyword in ("net", "recipe") or path.name == _SHARED_BLOCKS:
                index[name] = path
    return index
