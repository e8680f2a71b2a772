"""Names: the definitions of a file, what it imports, and the standard library; mistakes that need no evaluation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from archdsl import resources
from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, Gathering, Label, arranged, diagnose, error
from archdsl.base.source import Source, Span
from archdsl.base.suggest import dashed, did_you_mean
from archdsl.core.data import DATA_SETS, DataSet
from archdsl.core.primitives import OPERATORS, PRIMITIVES, Primitive
from archdsl.core.recipe import SETTINGS
from archdsl.frontend import syntax
from archdsl.frontend.calls import missing_arguments, wrong_arguments
from archdsl.frontend.parser import readable
from archdsl.frontend.syntax import Block, Definition, Net

Global = Block | Net | Primitive | DataSet

Texts = Mapping[Path, str]
"""Files as they stand in an editor, which need not be as they are saved."""

_DEFINITION = re.compile(r"^(net|block|flow) ([A-Za-z_]\w*)\b(?! *=)", re.MULTILINE)
_HEAD = re.compile(r"\b(?:net|block|flow|def|class|import)\s+(\w+(?:\s*,\s*\w+)*)")
"""Names that an item gives a meaning, also one that is not in the language."""
_SHARED_BLOCKS = "blocks.arch"
"""The library file whose blocks every spec sees; of the other library files a spec sees the nets."""


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
            module.problems += _Checker(self, module).problems()
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
            elif isinstance(item, Block | Net):
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
            if keyword == "net" or path.name == _SHARED_BLOCKS:
                index[name] = path
    return index


class _Checker:
    """Mistakes in a file that show without evaluation: unknown names, what is never used, what is named twice."""

    def __init__(self, library: Library, module: Module) -> None:
        self.library = library
        self.module = module
        self.found: list[Diagnostic] = []
        self.used = set(re.findall(r"\w+", module.unread))
        imported = {n.name for i in module.file.items if isinstance(i, syntax.Import) for n in i.names}
        self.elsewhere = imported | module.missing
        """Those that could not be read are wrong once, where they are imported or defined."""

    def problems(self) -> list[Diagnostic]:
        for item in self.module.file.items:
            match item:
                case Block() | Net():
                    self._clauses(item)
                    self._definition(item)
                case syntax.NamedNet():
                    names = self._sweeps(item)
                    self._on(item.on, names)
                    self._expression(item.value, {"classes": [True], **names})
                    self._statements(item.clauses, {})
                    unused = [n for s in item.sweeps for n in s.names if not names[n.name][0]]
                    self.found += [diagnose("unused-let", n.span, name=n.name) for n in unused]
                case syntax.Import():
                    pass
        for item in self.module.file.items:
            for name in item.names if isinstance(item, syntax.Import) else ():
                if name.name not in self.used and name.name in self.module.names:
                    self.found.append(diagnose("unused-import", name.span, name=name.name))
        return self.found

    def _sweeps(self, item: syntax.NamedNet) -> dict[str, list[bool]]:
        """The names that the lists of a network give values."""
        names: dict[str, list[bool]] = {}
        first: dict[str, Span] = {}
        for sweep in item.sweeps:
            for name, items in zip(sweep.names, sweep.lists, strict=True):
                self._expression(items, {})
                if name.name in names:
                    self._twice(name.span, name.name, first[name.name])
                first.setdefault(name.name, name.span)
                names[name.name] = [False]
        return names

    def _twice(self, span: Span, name: str, first: Span) -> None:
        self.found.append(diagnose("defined-twice", span, name=name, secondary=(Label(first, "first here"),)))

    def _clauses(self, item: Block | Net) -> None:
        """Clauses say something of a network, or, for training, of a family."""
        for statement in item.body:
            if isinstance(statement, syntax.Expect | syntax.Place) and (isinstance(item, Block) or item.params):
                what = "expect" if isinstance(statement, syntax.Expect) else "place"
                help = f"it belongs to a network: `net NAME = CALL {{ {what} ... }}`"
                self.found.append(diagnose("misplaced", statement.span, what=what, help=help))
            if isinstance(statement, syntax.Train) and isinstance(item, Block):
                self.found.append(diagnose("misplaced", statement.span, what="train", help="it belongs to a `net`"))

    def _definition(self, item: Block | Net) -> None:
        scope: dict[str, list[bool]] = {}
        before = len(self.found)
        for param in item.params:
            if param.name in scope:
                first = next(p for p in item.params if p.name == param.name)
                self._twice(param.span, param.name, first.span)
            scope[param.name] = [False]
        choices = {c: [True] for p in item.params for c in p.choices}
        inner = {**choices, **scope}
        if isinstance(item, Net):
            inner["classes"] = [True]
            self._on(item.on, inner)
        for param in item.params:
            if param.default and not param.choices:
                self._expression(param.default, inner)
        if isinstance(item, Block) and item.sequence:
            self._expression(item.sequence, inner)
        self._statements(item.body, inner)
        rests = [p for p in item.params if p.rest]
        if len(rests) > 1:
            self.found.append(
                diagnose("defined-twice", rests[1].span, "one rest parameter takes all", name=rests[1].name)
            )
        if any(d.key == "unknown-name" for d in self.found[before:]):
            return  # a misspelt name is no reason to remove the parameter
        for param in item.params:
            if not scope[param.name][0]:
                help = "remove it, or use it in the body"
                self.found.append(diagnose("unused-parameter", param.span, name=param.name, owner=item.name, help=help))

    def _on(self, on: syntax.On | None, scope: dict[str, list[bool]]) -> None:
        if on is None:
            return
        plain = re.sub(r"\W", "", on.data.span.text).lower()
        if not isinstance(on.data, syntax.Name) and plain in DATA_SETS:
            found = on.data.span.text
            self.found.append(diagnose("unknown-data", on.data.span, name=found, help=f"did you mean `{plain}`?"))
        elif isinstance(on.data, syntax.Name) and on.data.name not in DATA_SETS and on.data.name not in scope:
            name = on.data.name
            help = did_you_mean(name, DATA_SETS) or f"the data sets are {', '.join(DATA_SETS)}"
            self.found.append(diagnose("unknown-data", on.data.span, name=name, help=help))
        else:
            self._expression(on.data, scope)
        if on.classes:
            self._expression(on.classes, scope)

    def _statements(self, statements: tuple[syntax.Statement, ...], outer: dict[str, list[bool]]) -> None:
        scope = dict(outer)
        mine: list[tuple[syntax.Let | syntax.Share, list[bool]]] = []
        for statement in statements:
            match statement:
                case syntax.Let() | syntax.Share():
                    self._expression(statement.value, scope)
                    if statement.name in scope:
                        self.found.append(diagnose("shadowed", statement.name_span, name=statement.name))
                        scope[statement.name][0] = True  # what is read by this name was meant for one of the two
                    used = [False]
                    scope[statement.name] = used
                    mine.append((statement, used))
                case syntax.Require():
                    self._expression(statement.condition, scope)
                    for name in names_in_message(statement.message.value):
                        if name in scope:
                            scope[name][0] = True
                        elif name.isidentifier():
                            self.found.append(unknown_name(syntax.Name(statement.message.span, name), [*scope]))
                        else:
                            shown = f"`{{{name}}}`"
                            self.found.append(diagnose("bad-message", statement.message.span, found=shown))
                case syntax.Train():
                    for setting in statement.settings:
                        if not _is_word(setting):
                            self._expression(setting.value, scope)
                case syntax.Auxiliary():
                    self._expression(statement.weight, scope)
                    self._expression(statement.value, scope)
                case syntax.When():
                    self._expression(statement.condition, scope)
                    self._statements(statement.body, scope)
                    for inner in statement.body:
                        if isinstance(inner, syntax.Result | syntax.Expect | syntax.Train | syntax.Place):
                            help = "it holds `let`, `require` and `aux`; a flow is chosen by `if ... then ... else ...`"
                            what = inner.span.text.split()[0]
                            self.found.append(diagnose("misplaced", inner.span, what=what, help=help))
                case syntax.Result():
                    self._expression(statement.value, scope)
                case syntax.Expect():
                    pass
        for statement, used in mine:
            if not used[0]:
                self.found.append(diagnose("unused-let", statement.name_span, name=statement.name))

    def _name(self, name: syntax.Name, scope: dict[str, list[bool]]) -> None:
        self.used.add(name.name)
        if name.name in scope:
            scope[name.name][0] = True
        elif name.name in self.elsewhere or len(self.found) >= limits.PROBLEMS:
            return
        elif self.library.find(name.name, self.module) is None:
            known = [*scope, *self.library.known(self.module)]
            self.found.append(unknown_name(name, known))

    def _expression(self, expr: syntax.Expr, scope: dict[str, list[bool]]) -> None:
        match expr:
            case syntax.Name():
                self._name(expr, scope)
            case syntax.Call() | syntax.Multiply():
                self._expression(expr.callee, scope)
                self._arguments(expr, scope)
            case syntax.Loop():
                for part in (expr.times, expr.items):
                    if part:
                        self._expression(part, scope)
                fresh = {n: [False] for n in (expr.counter, expr.item) if n}
                for name in fresh:
                    if name in scope:
                        self.found.append(diagnose("shadowed", expr.span, name=name))
                self._statements(expr.body.body, {**scope, **fresh})
                for name, used in fresh.items():
                    if not used[0]:
                        self.found.append(diagnose("unused-let", expr.span, "this loop never uses it", name=name))
            case syntax.Group():
                self._statements(expr.body, scope)
            case _:
                for part in _steps(expr):
                    self._applied(part, scope)
                for child in children(expr):
                    self._expression(child, scope)

    def _applied(self, expr: syntax.Expr, scope: dict[str, list[bool]]) -> None:
        """What is applied to a tensor needs all of its arguments."""
        name = expr.callee if isinstance(expr, syntax.Call) else expr
        if isinstance(name, syntax.Name) and name.name not in scope and isinstance(expr, syntax.Call | syntax.Name):
            found = self.library.find(name.name, self.module)
            if found and not isinstance(found[0], DataSet):
                self.found += missing_arguments(found[0], expr)

    def _arguments(self, call: syntax.Call | syntax.Multiply, scope: dict[str, list[bool]]) -> None:
        callee = call.callee
        while isinstance(callee, syntax.Call | syntax.Multiply):
            callee = callee.callee
        found = None
        opaque = not isinstance(callee, syntax.Name) or callee.name in scope
        if isinstance(callee, syntax.Name) and not opaque:
            found = self.library.find(callee.name, self.module)
        params = found[0].params if found and isinstance(found[0], Block | Net) else ()
        if found and isinstance(call, syntax.Call) and callee is call.callee and not isinstance(found[0], DataSet):
            self.found += wrong_arguments(found[0], call)
        positional = iter(params)
        for arg in call.args:
            param = next((p for p in params if p.name == arg.name), None) if arg.name else next(positional, None)
            bare = isinstance(arg.value, syntax.Name)
            if bare and (opaque or (param and arg.value.name in param.choices)):  # type: ignore[union-attr]
                if arg.value.name in scope:  # type: ignore[union-attr]
                    scope[arg.value.name][0] = True  # type: ignore[union-attr]
                continue
            if bare and param and param.choices and arg.value.name not in scope:  # type: ignore[union-attr]
                continue  # not one of the choices: binding says so, and names them
            self._expression(arg.value, scope)


def unknown_name(name: syntax.Name, known: list[str]) -> Diagnostic:
    """The diagnostic of a name that means nothing here."""
    numbered = re.fullmatch(r"([A-Za-z_]+?)_?(\d+)", name.name)
    if numbered and numbered[1] in known:
        help: str | None = f"did you mean `{numbered[1]}({numbered[2]})`?"
    else:
        help = _ELSEWHERE.get(name.name) or dashed(name.span) or did_you_mean(name.name, known)
    return diagnose("unknown-name", name.span, name=name.name, help=help)


_LAYERS = "layers are known by their names, as in `Conv(16, 3)`"
_ELSEWHERE = {
    "True": "write `true`",
    "False": "write `false`",
    "None": "write `none`",
    "null": "write `none`",
    "torch": _LAYERS,
    "nn": _LAYERS,
    "F": _LAYERS,
    "keras": _LAYERS,
    "self": "a block is not an object: its parts are named by labels, as in `conv1: Conv(16, 3)`",
    "input": "the input of a block is `in`",
    "x": "the input of a block is `in`",
    "num_classes": "the number of classes is `classes`",
    "classes": "only a `net` knows the classes; hand them to a block as an argument",
    "BN": "did you mean `BatchNorm`?",
    "GAP": "did you mean `GlobalAvgPool`?",
    "FC": "did you mean `Linear`?",
    "Dense": "did you mean `Linear`?",
    "Pool": "did you mean `MaxPool` or `AvgPool`?",
    "range": "to do something n times write `repeat n { ... }`",
}
"""What people write who come from Python, and what it is here."""


def names_in_message(text: str) -> list[str]:
    """The names inside the braces of a message.

    >>> names_in_message("depth {depth} is not 6n + 4")
    ['depth']
    """
    return re.findall(r"\{([^{}]*)\}", text)


def children(expr: syntax.Expr) -> Iterator[syntax.Expr]:
    """The expressions directly inside an expression; those of statements in it excluded."""
    match expr:
        case syntax.ListExpr():
            yield from expr.items
        case syntax.Attribute():
            yield expr.owner
        case syntax.Index():
            yield from (expr.owner, expr.position)
        case syntax.Call() | syntax.Multiply():
            yield expr.callee
            yield from (a.value for a in expr.args)
        case syntax.Unary():
            yield expr.operand
        case syntax.Binary():
            yield from (expr.left, expr.right)
        case syntax.If():
            yield from (expr.condition, expr.then, expr.otherwise)
        case syntax.Chain():
            yield from (expr.head, *expr.steps)
        case syntax.Labelled():
            if expr.label.number:
                yield expr.label.number
            yield expr.body
        case syntax.Loop():
            yield from (e for e in (expr.times, expr.items) if e)
        case syntax.Join():
            yield from (a.value for a in expr.args)
            yield from expr.branches
        case _:
            return


def _steps(expr: syntax.Expr) -> tuple[syntax.Expr, ...]:
    """The parts of an expression that are applied to a tensor, if they are blocks."""
    match expr:
        case syntax.Chain():
            return (expr.head, *expr.steps)
        case syntax.Labelled():
            return (expr.body,)
        case syntax.Join():
            return expr.branches
        case _:
            return ()


def _is_word(setting: syntax.Setting) -> bool:
    """Whether a setting is one of the words that it takes, or something in the place of one."""
    row = SETTINGS.get(setting.name)
    return isinstance(setting.value, syntax.Name) and bool(row and row.choices)


def expressions_of(statement: syntax.Statement) -> Iterator[syntax.Expr]:
    """The expressions directly inside a statement."""
    match statement:
        case syntax.Let() | syntax.Share() | syntax.Result():
            yield statement.value
        case syntax.Require():
            yield statement.condition
        case syntax.When():
            yield statement.condition
            for inner in statement.body:
                yield from expressions_of(inner)
        case syntax.Auxiliary():
            yield from (statement.weight, statement.value)
        case syntax.Train() | syntax.Expect() | syntax.Place():
            return


def any_expression(expr: syntax.Expr, test: Callable[[syntax.Expr], bool]) -> bool:
    """Whether a test holds of an expression or of any below it, statements included."""
    if test(expr):
        return True
    bodies = expr.body if isinstance(expr, syntax.Group) else expr.body.body if isinstance(expr, syntax.Loop) else ()
    below = [*children(expr), *(e for s in bodies for e in expressions_of(s))]
    return any(any_expression(e, test) for e in below)
