"""The `train` clauses of a network -> its recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

from archdsl.base.diagnostics import Gathering, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Span
from archdsl.base.suggest import did_you_mean
from archdsl.core.ir import Recipe
from archdsl.core.recipe import SETTINGS, combine, idle
from archdsl.core.types import Scalar, Shape
from archdsl.frontend import syntax
from archdsl.frontend.evaluate import Evaluator, Scope
from archdsl.frontend.values import describe

Settings: TypeAlias = tuple[tuple[syntax.Setting, Scope], ...]
"""What one definition says of training; each value is worked out among the parameters of its family."""


def settings_of(statements: Sequence[syntax.Statement], scope: Scope) -> Settings:
    """The settings of the `train` clauses among statements."""
    return tuple((s, scope) for clause in statements if isinstance(clause, syntax.Train) for s in clause.settings)


def recipe_of(evaluator: Evaluator, definitions: Sequence[Settings], images: Shape) -> Recipe:
    """What definitions say of training, one built on the other; later ones win.

    Raises ArchError for settings that are unknown, given twice in one definition, of the wrong kind, or without effect.
    """
    values: list[dict[str, Scalar]] = []
    for settings in definitions:
        values.append(_values(evaluator, settings))
        unused = idle(combine(*values), {name for part in values for name in part})
        parts = Gathering()
        for setting, _ in settings:
            with parts:
                if problem := unused.get(setting.name):
                    raise error("bad-setting", setting.span, problem=problem)
                border = values[-1][setting.name] if setting.name == "crop_padding" else 0
                if isinstance(border, int) and border >= min(images.dims[1:], default=border + 1):
                    problem = f"a border of {border} cannot be reflected in an image of {images}"
                    raise error("bad-setting", setting.value.span, problem=problem)
        parts.settle()
    return Recipe(tuple(combine(*values).items()))


def _values(evaluator: Evaluator, settings: Settings) -> dict[str, Scalar]:
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
            found[setting.name] = _setting(evaluator, setting, scope)
    parts.settle()
    return found


def _setting(evaluator: Evaluator, setting: syntax.Setting, scope: Scope) -> Scalar:
    row = SETTINGS.get(setting.name)
    if row is None:
        help = did_you_mean(setting.name, SETTINGS) or f"the settings are {', '.join(SETTINGS)}"
        raise error("bad-setting", setting.name_span, problem=f"unknown setting `{setting.name}`", help=help)
    word = setting.value.name if isinstance(setting.value, syntax.Name) else None
    value = word if word and row.choices else evaluator.eval(setting.value, scope)
    if not row.accepts(value):
        problem = f"`{setting.name}` must be {row.expected}, not {f'`{word}`' if word else describe(value)}"
        near = did_you_mean(word, row.choices) if word else None
        raise error("bad-setting", setting.value.span, problem=problem, help=near)
    return cast(Scalar, value)
