"""Arguments to parameters: positional, named, rest and spread; a call may leave some for later."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.base.diagnostics import Gathering, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Span
from archdsl.base.suggest import did_you_mean, spoken
from archdsl.core.primitives import PRIMITIVES, REQUIRED, Primitive, check_argument
from archdsl.core.types import Scalar
from archdsl.frontend.syntax import Block, Net, Param
from archdsl.frontend.values import Choice, Template, Unknown, Value, bounded, describe


@dataclass(frozen=True, slots=True)
class Given:
    """An argument of a call, evaluated."""

    name: str | None
    value: Value
    span: Span
    """Where the value was written."""
    at: Span
    """The argument as a whole."""


def parameters(callee: Block | Net | Primitive) -> tuple[Param, ...]:
    """The parameters of anything that can be called."""
    if isinstance(callee, Primitive):
        return _primitive_params(callee.name)
    return callee.params


def _primitive_params(kind: str) -> tuple[Param, ...]:
    from archdsl.base.source import Source  # the table has no source of its own

    span = Span(Source("primitives", "", library=True), 0, 0)
    return tuple(Param(span, p.name) for p in PRIMITIVES[kind].parameters)


def bind(template: Template, given: list[Given], span: Span) -> Template:
    """The template with further arguments. Raises ArchError for those that do not fit."""
    callee = template.callee
    params = parameters(callee)
    bound = dict(template.args)
    spans = dict(template.spans)
    free = [p for p in params if p.name not in bound]
    fresh: dict[str, Span] = {}
    rest: list[Given] = []
    parts = Gathering()
    for arg in given:
        with parts:
            if arg.name is None:
                param = free[0] if free else None
                if param is None:
                    if any(d.key == "too-many-arguments" for d in parts.found):
                        continue
                    raise error("too-many-arguments", arg.at, callee=callee.name, most=_most(params), given=len(given))
                if param.rest:
                    rest.append(arg)
                    continue
                free.pop(0)
            else:
                found = next((p for p in params if p.name == arg.name), None)
                if found is None or found.rest:
                    help = _meant(arg.name, [p.name for p in params if not p.rest])
                    raise error("unknown-argument", arg.at, callee=callee.name, name=arg.name, help=help)
                param = found
                free = [p for p in free if p is not param]
            if param.name in fresh:
                first = (Mark(fresh[param.name], "first here"),)
                raise error("repeated-argument", arg.at, name=param.name, secondary=first)
            fresh[param.name] = arg.at
            bound[param.name] = _checked(callee, param, arg)
            spans[param.name] = arg.span
    parts.settle()
    if rest:
        name = next(p.name for p in params if p.rest)
        bound[name] = tuple(a.value for a in rest)
        spans[name] = rest[0].span.to(rest[-1].span)
    ordered = tuple((p.name, bound[p.name]) for p in params if p.name in bound)
    whole = Template(callee, ordered, tuple(spans.items()))
    bounded(whole, span)
    return whole


_OTHERWISE = {
    "kernel_size": "kernel",
    "out_channels": "width",
    "out_features": "width",
    "filters": "width",
    "units": "width",
    "output_size": "size",
    "drop_rate": "dropout",
    "growth_rate": "growth",
    "widen_factor": "k",
}
"""What other libraries call a parameter."""


def _meant(name: str, known: list[str]) -> str | None:
    """Which parameter an unknown name may stand for."""
    if name in ("in_channels", "in_features", "num_features"):
        return "leave it out: the channels of the input are known"
    if _OTHERWISE.get(name) in known:
        return f"it is called `{_OTHERWISE[name]}` here"
    return did_you_mean(name, known) or (f"its parameters are {', '.join(known)}" if known else None)


def _most(params: tuple[Param, ...]) -> str:
    return f"{len(params)} argument{'s' if len(params) != 1 else ''}" if params else "no arguments"


def _checked(callee: Block | Net | Primitive, param: Param, arg: Given) -> Value:
    if isinstance(arg.value, Unknown):
        return arg.value
    if isinstance(callee, Primitive):
        row = next(p for p in callee.parameters if p.name == param.name)
        value, expected = check_argument(row, arg.value)
        if expected:
            words = {"name": param.name, "callee": callee.name, "expected": expected, "found": describe(arg.value)}
            raise error("bad-argument", arg.span, **words)
        return value
    optional = param.default is not None and getattr(param.default, "value", 0) is None
    chosen = isinstance(arg.value, Choice) and arg.value.name in param.choices
    if param.choices and not chosen and not (optional and arg.value is None):
        choices = spoken(f"`{c}`" for c in param.choices)
        words = {"name": param.name, "callee": callee.name, "choices": choices, "found": describe(arg.value)}
        raise error("not-a-choice", arg.span, **words)
    return arg.value


def missing(template: Template) -> list[str]:
    """Parameters that have neither an argument nor a default."""
    if isinstance(template.callee, Primitive):
        required = [p.name for p in template.callee.parameters if p.default is REQUIRED]
    else:
        required = [p.name for p in template.callee.params if p.default is None and not p.rest]
    bound = dict(template.args)
    return [name for name in required if name not in bound]


def complete(template: Template, span: Span) -> None:
    """Raises ArchError for a template that cannot be applied yet."""
    names = missing(template)
    if names:
        words = {"callee": template.name, "names": spoken((f"`{n}`" for n in names), "and")}
        raise error("missing-argument", span, **words)


def primitive_args(template: Template) -> dict[str, Scalar]:
    """The complete arguments of a primitive."""
    assert isinstance(template.callee, Primitive)
    bound = dict(template.args)
    args = {p.name: bound.get(p.name, p.default) for p in template.callee.parameters}
    template.callee.complete(args)
    return args
