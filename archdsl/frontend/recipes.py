"""The `train` and `init` clauses of a network -> its recipe, and how its weights start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from archdsl.base.diagnostics import Gathering, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Span
from archdsl.base.suggest import did_you_mean
from archdsl.core.data import DataSet
from archdsl.core.initial import INITIAL, start_of
from archdsl.core.ir import Recipe
from archdsl.core.recipe import SETTINGS, Setting, combine, idle
from archdsl.core.types import Scalar, Shape
from archdsl.frontend import syntax
from archdsl.frontend.builder import Frame
from archdsl.frontend.evaluate import Evaluator, Scope
from archdsl.frontend.values import RecipeValue, Value, describe

Settings: TypeAlias = tuple[tuple[syntax.Setting, Scope], ...]
"""What one definition says of training; each value is worked out among the parameters of its family."""

NAMED = "recipe"
"""The setting that names a recipe, which the others of its clause change."""


def settings_of(
    statements: Sequence[syntax.Statement], scope: Scope, clause: type[syntax.Train] | type[syntax.Init] = syntax.Train
) -> Settings:
    """The settings of the `train` clauses among statements, or of the `init` clauses."""
    return tuple((s, scope) for c in statements if isinstance(c, clause) for s in c.settings)


def recipe_of(evaluator: Evaluator, definitions: Sequence[Settings], images: Shape, data: DataSet | None) -> Recipe:
    """What definitions say of training, one built on the other; later ones win.

    A recipe that is named begins anew. Raises ArchError for settings that are unknown, given twice in one definition,
    of the wrong kind, or without effect.
    """
    values: list[dict[str, Scalar]] = []
    named: syntax.Recipe | None = None
    for settings in definitions:
        chosen = _recipe(evaluator, settings, data)
        if chosen:
            named, values = chosen, []
            if (named, data) not in evaluator.recipes:
                evaluator.recipes[named, data] = _of_recipe(evaluator, named, data)
            _check(named.settings, evaluator.recipes[named, data], values, images, data)
            values.append(evaluator.recipes[named, data])
        others = tuple((s, scope) for s, scope in settings if s.name != NAMED)
        found = _values(evaluator, others, data, SETTINGS)
        _check([s for s, _ in others], found, values, images, data)
        values.append(found)
    combined = combine(*values)
    if named is None:
        return Recipe(tuple(combined.items()))
    own = combine(values[0])
    changed = tuple(name for name, value in combined.items() if value != own[name])
    return Recipe(tuple(combined.items()), named.name, " ".join(named.doc.split()), changed)


def initial_of(
    evaluator: Evaluator, definitions: Sequence[Settings], data: DataSet | None
) -> tuple[tuple[str, Scalar], ...]:
    """What definitions say of how weights start; later ones win. Raises ArchError."""
    return start_of(*(_values(evaluator, settings, data, INITIAL) for settings in definitions))


def _recipe(evaluator: Evaluator, settings: Settings, data: DataSet | None) -> syntax.Recipe | None:
    """The recipe that a clause names, if it does."""
    found = [(s, scope) for s, scope in settings if s.name == NAMED]
    if len(found) > 1:
        first = (Mark(found[0][0].name_span, "first here"),)
        raise error("bad-setting", found[1][0].name_span, problem="`recipe` is given twice", secondary=first)
    for setting, scope in found:
        value = _evaluated(evaluator, setting.value, _with_data(scope, data), ())
        if not isinstance(value, RecipeValue):
            problem = f"`recipe` must be a recipe, not {describe(cast(Value, value))}"
            help = "a recipe is a definition of its own, `recipe NAME { ... }`"
            raise error("bad-setting", setting.value.span, problem=problem, help=help)
        return value.definition
    return None


def _of_recipe(evaluator: Evaluator, recipe: syntax.Recipe, data: DataSet | None) -> dict[str, Scalar]:
    """The values of the settings of a recipe, worked out among the names of its file."""
    home = evaluator.library.home(recipe)
    assert home
    top = Scope(Frame("", home, {}, {}, 0), {}, None, None)
    return _values(evaluator, tuple((s, top) for s in recipe.settings), data, SETTINGS)


def _check(
    settings: Sequence[syntax.Setting],
    values: Mapping[str, Scalar],
    before: Sequence[Mapping[str, Scalar]],
    images: Shape,
    data: DataSet | None,
) -> None:
    """Raises ArchError for the settings of one definition that have no effect, or do not fit the images."""
    combined = combine(*before, values)
    folder = data is None or data.name == "imagenet"
    unused = idle(combined, {name for part in (*before, values) for name in part}, folder)
    decides = "crop_padding" if "crop_padding" in values else "crop_border"
    parts = Gathering()
    for setting in settings:
        with parts:
            # The library's recipes are for several kinds of data, and need not all have an effect on each.
            if (problem := unused.get(setting.name)) and not setting.span.source.library:
                raise error("bad-setting", setting.span, problem=problem)
            border = combined["crop_padding"] if setting.name == decides else 0
            reflected = combined["crop_border"] == "reflect"
            if reflected and isinstance(border, int) and border >= min(images.dims[1:], default=border + 1):
                problem = f"a border of {border} cannot be reflected in an image of {images}"
                raise error("bad-setting", setting.value.span, problem=problem)
    parts.settle()


def _values(
    evaluator: Evaluator, settings: Settings, data: DataSet | None, table: Mapping[str, Setting]
) -> dict[str, Scalar]:
    """The values of the settings of one definition."""
    parts = Gathering()
    seen: dict[str, Span] = {}
    found: dict[str, Scalar] = {}
    for setting, scope in settings:
        with parts:
            if setting.name in seen:
                first = (Mark(seen[setting.name], "first here"),)
                problem = f"setting `{setting.name}` is given twice"
                raise error("bad-setting", setting.name_span, problem=problem, secondary=first)
            seen[setting.name] = setting.name_span
            found[setting.name] = _setting(evaluator, setting, _with_data(scope, data), table)
    parts.settle()
    return found


def _setting(evaluator: Evaluator, setting: syntax.Setting, scope: Scope, table: Mapping[str, Setting]) -> Scalar:
    row = table.get(setting.name)
    if row is None:
        help = did_you_mean(setting.name, table) or f"the settings are {', '.join(table)}"
        raise error("bad-setting", setting.name_span, problem=f"unknown setting `{setting.name}`", help=help)
    value = _evaluated(evaluator, setting.value, scope, row.choices)
    if not row.accepts(value):
        word = value if isinstance(value, str) and isinstance(setting.value, syntax.Name) else None
        problem = f"`{setting.name}` must be {row.expected}, not {f'`{word}`' if word else describe(value)}"
        near = did_you_mean(word, row.choices) if word else None
        raise error("bad-setting", setting.value.span, problem=problem, help=near)
    return cast(Scalar, value)


def _evaluated(evaluator: Evaluator, expr: syntax.Expr, scope: Scope, words: Sequence[str]) -> Value:
    """The value of a setting; a name that means nothing else is a word where words are taken."""
    if isinstance(expr, syntax.If):
        condition = evaluator.eval(expr.condition, scope)
        if not isinstance(condition, bool):
            raise error("bad-condition", expr.condition.span, found=describe(condition))
        return _evaluated(evaluator, expr.then if condition else expr.otherwise, scope, words)
    if words and isinstance(expr, syntax.Name) and expr.name not in scope.names:
        return expr.name
    return evaluator.eval(expr, scope)


def _with_data(scope: Scope, data: DataSet | None) -> Scope:
    """What a setting may ask for: the parameters of its family, and the data."""
    return Scope(scope.frame, {"data": data, **scope.names}, None, None)
