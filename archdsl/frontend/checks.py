"""Mistakes in a file that show without evaluation: unknown names, what is never used, what is named twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archdsl.base import limits
from archdsl.base.diagnostics import Diagnostic, Label, diagnose
from archdsl.base.source import Span
from archdsl.base.suggest import dashed, did_you_mean
from archdsl.core.data import DATA_SETS, DataSet
from archdsl.core.initial import INITIAL
from archdsl.core.recipe import SETTINGS
from archdsl.frontend import syntax
from archdsl.frontend.calls import missing_arguments, wrong_arguments
from archdsl.frontend.syntax import Block, Net
from archdsl.frontend.walk import children, names_in_message

if TYPE_CHECKING:
    from archdsl.frontend.resolve import Library, Module


def mistakes(library: Library, module: Module) -> list[Diagnostic]:
    """What is wrong with a module whose names are known."""
    return _Checker(library, module).problems()


class _Checker:
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
                case syntax.Recipe():
                    self._settings(item.settings, {})
                case syntax.NamedNet():
                    names = self._sweeps(item)
                    self._on(item.on, names)
                    self._expression(item.value, {"classes": [True], **names})
                    self._statements(item.clauses, names)
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
        """Clauses say something of a network, or, for weights and training, of a family."""
        for statement in item.body:
            if isinstance(statement, syntax.Expect | syntax.Place) and (isinstance(item, Block) or item.params):
                what = "expect" if isinstance(statement, syntax.Expect) else "place"
                help = f"it belongs to a network: `net NAME = CALL {{ {what} ... }}`"
                self.found.append(diagnose("misplaced", statement.span, what=what, help=help))
            if isinstance(statement, syntax.Train | syntax.Init) and isinstance(item, Block):
                what = "train" if isinstance(statement, syntax.Train) else "init"
                self.found.append(diagnose("misplaced", statement.span, what=what, help="it belongs to a `net`"))

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
                case syntax.Train() | syntax.Init():
                    self._settings(statement.settings, scope)
                case syntax.Auxiliary():
                    self._expression(statement.weight, scope)
                    self._expression(statement.value, scope)
                case syntax.When():
                    self._expression(statement.condition, scope)
                    self._statements(statement.body, scope)
                    for inner in statement.body:
                        if isinstance(inner, syntax.Result | syntax.Expect | syntax.Train | syntax.Init | syntax.Place):
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

    def _settings(self, settings: tuple[syntax.Setting, ...], scope: dict[str, list[bool]]) -> None:
        """The values of a clause, which may ask for the data."""
        scope = {"data": [True], **scope}
        for setting in settings:
            row = SETTINGS.get(setting.name) or INITIAL.get(setting.name)
            self._setting(setting.value, bool(row and row.choices), scope)

    def _setting(self, value: syntax.Expr, words: bool, scope: dict[str, list[bool]]) -> None:
        """The names in the value of a setting. A wrong word is reported later, beside the words that are allowed."""
        if isinstance(value, syntax.If):
            self._expression(value.condition, scope)
            self._setting(value.then, words, scope)
            self._setting(value.otherwise, words, scope)
        elif not (words and isinstance(value, syntax.Name) and value.name not in scope):
            self._expression(value, scope)

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
            if found and not isinstance(found[0], DataSet | syntax.Recipe):
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
        if (
            found
            and isinstance(call, syntax.Call)
            and callee is call.callee
            and not isinstance(found[0], DataSet | syntax.Recipe)
        ):
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
