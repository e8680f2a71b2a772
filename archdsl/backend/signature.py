"""The parameters of a class: what its instances differ in, under the names that the definition gives it.

A number in which no two instances differ is written as a constant, so a class has no parameter that nobody uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TypeAlias

from archdsl.backend.groups import Mismatch
from archdsl.backend.merge import (
    HOLE,
    Affine,
    ApplyPart,
    CallPart,
    Cell,
    HeadPart,
    Hole,
    LayerPart,
    LoopPart,
    Part,
    RegionPart,
    SelectPart,
    SequencePart,
    Slot,
    Term,
    UnrolledPart,
)
from archdsl.core.ir import Block, Label
from archdsl.core.names import is_taken
from archdsl.core.types import Scalar, scalar_text

Values: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    values: Values
    default: Scalar = None

    @property
    def type(self) -> str:
        names = {bool: "bool", tuple: "tuple[int, int]", Fraction: "float", int: "int", str: "str"}
        found = {type(v) for v in self.values if not isinstance(v, Hole)}
        if Fraction in found:
            found.discard(int)  # a float may be whole
        return " | ".join(sorted(names[t] for t in found))

    @property
    def declaration(self) -> str:
        return f"{self.name}: {self.type}" + (f" = {literal(self.default)}" if self.default is not None else "")


def literal(value: object) -> str:
    """A constant as Python writes it.

    >>> literal(True), literal(Fraction(1, 2)), literal(Fraction(1, 3)), literal("same")
    ('True', '0.5', '1 / 3', '"same"')
    """
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Fraction) and _is_endless(value):
        return f"{value.numerator} / {value.denominator}"
    return scalar_text(value)


def _is_endless(value: Fraction) -> bool:
    """Whether a number has no exact decimal of a few digits: 1 / 3, 129 / 130."""
    return 10**6 % value.denominator != 0 and value.denominator < 10**4


class Signature:
    """Chooses the parameters of a class and writes every number of its body in terms of them."""

    def __init__(self, variants: list[Block], region: RegionPart) -> None:
        self.variants = variants
        self._chosen: dict[str, Values] = {}
        self._texts: dict[tuple[tuple[str, Cell], ...], str] = {}
        self._conditions: dict[Values, tuple[str, str]] = {}
        self._flags: dict[str, Values] = {}
        self.labels = labels(region)
        same = all(v.input.channels == v.output.channels for v in variants)
        self._channels = "channels" if same else "in_channels"
        self._known: dict[str, Values] = {self._channels: tuple(v.input.channels for v in variants)}
        self._known |= _columns([dict(v.scalars) for v in variants])
        self._lets = {n: c for n, c in _columns([dict(v.lets) for v in variants]).items() if n not in self._known}
        for term in terms(region):
            if not (isinstance(term, Slot) and term.constant):
                self.expression(term)
        for taken, reads, name in conditions(region):
            self.condition(taken, reads, name)

    def parameters(self) -> tuple[Parameter, ...]:
        """In the definition's order, or in that of use where the definition does not name all; defaults last."""
        named = all(name in self._known for name in self._chosen)
        order = [*self._known] if named else [self._channels, *self._chosen]
        defaults = {f"{n}_" if is_taken(n) else n: v for n, v in self.variants[0].defaults}
        found = []
        for name in sorted(self._chosen, key=order.index):
            values = self._chosen[name]
            default = defaults.get(name)
            used = default is not None and any(v == default for v in values)
            found.append(Parameter(name, values, default if used else None))
        return tuple(sorted(found, key=lambda p: p.default is not None))

    def arguments(self) -> list[dict[str, Scalar]]:
        """What each variant passes."""
        rows: list[dict[str, Scalar]] = [{} for _ in self.variants]
        for name, values in self._chosen.items():
            for row, value in zip(rows, values, strict=True):
                assert not isinstance(value, Hole)
                row[name] = value
        return rows

    # ---- numbers

    def expression(self, term: Term, index: str = "i") -> str:
        """A number of the body as Python writes it in the class."""
        if isinstance(term, Slot):
            return self._number(term)
        base, step = self.expression(term.base), self.expression(term.step)
        rise = term.step.value if isinstance(term.step, Slot) and term.step.constant else None
        if isinstance(rise, Fraction):
            # 1 - i / 130 rather than 1 - 0.007692307692307693 * i.
            size = f"{index} / {rise.denominator}" if abs(rise.numerator) == 1 else f"{literal(abs(rise))} * {index}"
            base = base.removesuffix(".0")
            return f"{base} {'-' if rise < 0 else '+'} {size}"
        factor = f"({step})" if "+" in step or "-" in step or "//" in step else step
        product = index if step == "1" else f"{factor} * {index}"
        return product if base == "0" else f"{base} + {product}"

    def _number(self, slot: Slot) -> str:
        if slot.constant:
            return self._named(slot) or literal(slot.value)
        if found := self._sourced(slot):
            return found
        key = tuple((type(v).__name__, v) for v in slot.values)
        if key not in self._texts:
            self._texts[key] = self._find(slot.values, slot.role, slot.passed)
        return self._texts[key]

    def _sourced(self, slot: Slot) -> str | None:
        """Channels as what they come from: the width of the layer before, or the sum of what is joined."""
        if not slot.source:
            return None
        rows = zip(*(s.values for s in slot.source), strict=True)
        if any(v is not HOLE and (HOLE in r or v != sum(r)) for v, r in zip(slot.values, rows, strict=True)):
            return None
        fixed = [s.value for s in slot.source if s.constant]
        texts = [self._number(s) for s in slot.source if not s.constant]
        return " + ".join([*texts, *([str(sum(fixed))] if fixed else [])])  # type: ignore[arg-type]

    def _named(self, slot: Slot) -> str | None:
        """The parameter behind a number that only some instances have, where these happen to agree in it."""
        if HOLE not in slot.values:
            return None
        names = (slot.role, *(n for n in self._chosen if n != slot.role))
        found = (n for n in names if n in self._chosen and _matches(slot.values, self._chosen[n]))
        return next((n for n in found if n == slot.role or n in self._known), None)

    def _find(self, values: Values, role: str, passed: bool) -> str:
        names = {**self._chosen, **self._known}
        if role == "in_channels":
            names = {self._channels: self._known[self._channels], **names}
        for name, column in names.items():
            if _matches(values, column):
                return self._choose(name, column)
        opposite = tuple(not v if isinstance(v, bool) else v for v in values)
        if any(isinstance(v, bool) for v in values):
            for name, column in names.items():
                if _matches(opposite, column):
                    return f"not {self._choose(name, column)}"
        definition = {n: c for n, c in self._known.items() if n != self._channels}
        bases = {**self._chosen, **definition, **self._known}
        if passed:
            bases.pop(self._channels)
        for name, column in bases.items():
            found = _derived(values, column, name)
            if found:
                self._choose(name, column)
                return found
        for name, column in self._lets.items():
            if _matches(values, column):
                return self._choose(name, column)
        return self._pair(values, passed) or self._sum(values) or self._invent(role, values)

    def _sum(self, values: Values) -> str | None:
        """A number as the sum of two parameters of the definition."""
        names = [n for n, c in self._known.items() if n != self._channels and _is_int(c)]
        for a, b in combinations(names, 2):
            sums = tuple(x + y for x, y in zip(self._known[a], self._known[b], strict=True))  # type: ignore[operator]
            if len(set(sums)) > 1 and _matches(values, sums):
                return f"{self._choose(a, self._known[a])} + {self._choose(b, self._known[b])}"
        return None

    def _pair(self, values: Values, passed: bool) -> str | None:
        """A size by rows and columns, where what differs of it is a parameter: `(1, size)`."""
        pairs = [v if isinstance(v, tuple) else None for v in values]
        if any(p is None and v is not HOLE for p, v in zip(pairs, values, strict=True)):
            return None
        parts: list[str] = []
        for axis in (0, 1):
            column = tuple(p[axis] if p else HOLE for p in pairs)
            filled = [c for c in column if not isinstance(c, Hole)]
            names = {n: c for n, c in self._known.items() if n != self._channels}
            found = next((n for n, c in names.items() if _matches(column, c)), None)
            other = next((n for n, c in names.items() if _derived(column, c, n)), None)
            if len(set(filled)) == 1:
                parts.append(str(filled[0]))
            elif found:
                parts.append(self._choose(found, names[found]))
            elif other and (text := _derived(column, names[other], other)):
                self._choose(other, names[other])
                parts.append(text)
            else:
                return None
        return f"({parts[0]}, {parts[1]})"

    def _choose(self, name: str, values: Values) -> str:
        self._chosen.setdefault(name, values)
        return name

    def _invent(self, role: str, values: Values) -> str:
        name, number = role, 2
        while name in self._chosen or name in self._known or name in self._lets or name in self._flags:
            name, number = f"{role}{number}", number + 1
        filled = next(v for v in values if v is not HOLE)
        return self._choose(name, tuple(filled if v is HOLE else v for v in values))

    # ---- conditions

    def flag(self, part: SelectPart, hint: str | None) -> tuple[str, int]:
        """The attribute that remembers which arm an instance takes, and the arm for which it is true."""
        base, arm = flag_name(part, hint)
        name, number = base, 2
        while name in self.labels or self._flags.get(name, part.taken.values) != part.taken.values:
            name, number = f"{base}{number}", number + 1
        self._flags[name] = part.taken.values
        return name, arm

    def condition(self, taken: Slot, reads: tuple[str, ...], name: str) -> tuple[str, str]:
        """Python for "the first arm is taken", and for "the second is"."""
        values = taken.values
        if values not in self._conditions:
            self._conditions[values] = self._predicate(values, reads, name)
        return self._conditions[values]

    def _predicate(self, values: Values, reads: tuple[str, ...], name: str) -> tuple[str, str]:
        opposite = tuple(not v if isinstance(v, bool) else v for v in values)
        for known in (self._chosen, self._known):
            for other, column in known.items():
                if _matches(values, column):
                    self._choose(other, column)
                    return other, f"not {other}"
                if _matches(opposite, column):
                    self._choose(other, column)
                    return f"not {other}", other
        numbers = {n: c for n, c in {**self._chosen, **self._known}.items() if _is_number(c)}
        words = {n: c for n, c in self._known.items() if n in reads and _is_word(c)}
        spoken = {n: numbers[n] for n in (self._channels if r == "in_channels" else r for r in reads) if n in numbers}
        for pool in (words, spoken, {n: c for n, c in self._chosen.items() if n in numbers}, numbers):
            tests = _comparisons(pool)
            if pool is words:  # the one that is asked for, rather than that it is none of the others
                tests = iter(sorted(tests, key=lambda test: not _matches(values, test[2])))
            for operator, inverse, column, parts in tests:
                if _matches(values, column) or _matches(opposite, column):
                    for part in parts:
                        self._choose(part, pool[part])
                    return (operator, inverse) if _matches(values, column) else (inverse, operator)
        for other, column in self._lets.items():
            if _matches(values, column):
                return self._choose(other, column), f"not {other}"
        flag = self._invent(name, values)
        return flag, f"not {flag}"


def _comparisons(columns: dict[str, Values]) -> Iterator[tuple[str, str, Values, tuple[str, ...]]]:
    """Comparisons of parameters with each other and with constants: text, its opposite, truth in each row, names."""
    items = list(columns.items())
    for i, (a, left) in enumerate(items):
        for b, right in items[i + 1 :]:
            truth = tuple(x == y for x, y in zip(left, right, strict=True))
            yield f"{a} == {b}", f"{a} != {b}", truth, (a, b)
    for name, column in items:
        for word in sorted({v for v in column if isinstance(v, str)}):
            truth = tuple(v == word for v in column)
            yield f'{name} == "{word}"', f'{name} != "{word}"', truth, (name,)
        for constant in sorted({v for v in column if isinstance(v, int | Fraction)}):
            text = str(constant) if constant == int(constant) else literal(constant)
            if _is_int(column):  # floats are not asked whether they are equal
                yield f"{name} == {text}", f"{name} != {text}", tuple(v == constant for v in column), (name,)
            over = tuple(isinstance(v, int | Fraction) and v > constant for v in column)
            yield f"{name} > {text}", f"{name} <= {text}", over, (name,)


def _is_int(column: Values) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in column)


def _is_number(column: Values) -> bool:
    return all(isinstance(v, int | Fraction) and not isinstance(v, bool) for v in column)


def _is_word(column: Values) -> bool:
    return all(isinstance(v, str) for v in column)


def _matches(values: Values, column: Values) -> bool:
    """Whether a column has the values; 1 and the fraction 1 are one number, 1 and true are not."""
    pairs = [(v, c) for v, c in zip(values, column, strict=True) if v is not HOLE]
    return all(isinstance(v, bool) == isinstance(c, bool) and v == c for v, c in pairs)


def _columns(rows: list[dict[str, Scalar]]) -> dict[str, Values]:
    """Name -> its value in every row, for the names that every row has; a name that Python needs gets an underscore."""
    shared = [name for name in rows[0] if all(name in r for r in rows)]
    return {f"{name}_" if is_taken(name) else name: _column([r[name] for r in rows]) for name in shared}


def _column(values: list[Scalar]) -> Values:
    """Values as layers have them: one number for a size with equal axes, and integers where all are whole."""
    plain = [v[0] if isinstance(v, tuple) and len(set(v)) == 1 else v for v in values]
    if all(isinstance(v, int | Fraction) and v == int(v) for v in plain):
        return tuple(v if isinstance(v, int) else int(v) for v in plain)  # type: ignore[arg-type]
    return tuple(plain)


def _derived(values: Values, column: Values, name: str) -> str | None:
    """A number as a multiple, a fraction or a neighbour of a parameter."""
    pairs = [(v, c) for v, c in zip(values, column, strict=True) if v is not HOLE]
    exact = [(v, c) for v, c in pairs if isinstance(v, Fraction) and isinstance(c, Fraction)]
    if len(exact) == len(pairs) > 1 and len({v - c for v, c in exact}) == 1:
        apart = exact[0][0] - exact[0][1]
        return f"{name} {'+' if apart > 0 else '-'} {literal(abs(apart))}"
    whole = [(v, c) for v, c in pairs if _is_int((v, c)) and isinstance(v, int) and isinstance(c, int)]
    if len(whole) != len(pairs) or len({c for _, c in whole}) < 2 or any(c <= 0 for _, c in whole):
        return None
    v, c = whole[0]
    for m in range(2, 129):
        if all(v == m * c for v, c in whole):
            return f"{m} * {name}"
        if v > 0 and all(v == c // m for v, c in whole):
            return f"{name} // {m}"
    if all(w - d == v - c for w, d in whole):
        return f"{name} {'+' if v > c else '-'} {abs(v - c)}"
    return None


# ---- everything that a signature must express


def terms(region: RegionPart) -> Iterator[Slot]:
    """Every number of a body, in the order in which it is written."""
    for part in region.parts:
        yield from _part_terms(part)


def _part_terms(part: Part) -> Iterator[Slot]:
    match part:
        case ApplyPart(module=SequencePart(region=region)):
            yield from terms(region)
        case ApplyPart(module=LayerPart() | CallPart() as module):
            if not part.again:
                for name, term in module.args:
                    if name != "in_channels" or _reads_channels(module):
                        yield from _slots(term)
        case SelectPart():
            for arm in part.arms:
                if arm:
                    yield from terms(arm)
        case HeadPart():
            yield from terms(part.region)
        case LoopPart():
            yield part.count
            yield from terms(part.body)
        case UnrolledPart():
            for body, count in part.parts:
                if count:
                    yield count
                yield from terms(body)
        case _:
            pass


def _reads_channels(module: LayerPart | CallPart) -> bool:
    """Whether the channels of the input are written where the module is made or applied."""
    return isinstance(module, CallPart) or module.kind in ("Conv", "BatchNorm", "Linear", "PadChannels")


def _slots(term: Term) -> Iterator[Slot]:
    if isinstance(term, Affine):
        yield from _slots(term.base)
        yield from _slots(term.step)
    else:
        yield term


def conditions(region: RegionPart) -> Iterator[tuple[Slot, tuple[str, ...], str]]:
    """Every choice that instances take differently: what it reads, and what to call its first arm being taken."""
    for i, part in enumerate(region.parts, 1):
        match part:
            case ApplyPart(module=SequencePart(region=inner)):
                yield from conditions(inner)
            case SelectPart():
                if not part.taken.constant:
                    name, arm = flag_name(part, dict(region.names).get(i))
                    yield part.taken, part.reads, name if arm == 0 else f"not_{name}"
                for inner_arm in part.arms:
                    if inner_arm:
                        yield from conditions(inner_arm)
            case HeadPart():
                yield from conditions(part.region)
            case LoopPart():
                yield from conditions(part.body)
            case UnrolledPart():
                for body, _ in part.parts:
                    yield from conditions(body)
            case _:
                pass


def flag_name(part: SelectPart, hint: str | None) -> tuple[str, int]:
    """What to call the fact that an arm is taken, and which arm that is."""
    for arm in (0, 1):
        label = _first_name(part.arms[arm])
        if label:
            return f"has_{label}", arm
    hint = hint or "path"
    for arm in (0, 1):
        region = part.arms[arm]
        if region and not region.parts:
            return f"plain_{hint}", arm
    return f"first_{hint}", 0


def labels(region: RegionPart) -> set[str]:
    """The names of the modules of a body, as attributes."""
    found: set[str] = set()
    for part in region.parts:
        match part:
            case ApplyPart(label=Label(stem=stem) as label):
                found.add(f"{stem}{label.index}" if label.style == "index" else stem)
            case SelectPart():
                found |= {n for arm in part.arms if arm for n in labels(arm)}
            case HeadPart():
                found |= labels(part.region)
            case LoopPart():
                found |= labels(part.body)
            case UnrolledPart():
                found |= {n for body, _ in part.parts for n in labels(body)}
            case _:
                pass
    return found


def bias_starts(region: RegionPart) -> Iterator[tuple[str, str]]:
    """The modules of a body whose bias starts at a value of its own: attribute and value.

    Raises Mismatch if the value or the place cannot be written for all instances.
    """
    for part in region.parts:
        match part:
            case ApplyPart(module=LayerPart(kind="Conv" | "Linear", args=args), label=label, again=False):
                bias = dict(args)["bias"]
                values = {v for v in bias.values if v is not HOLE} if isinstance(bias, Slot) else {None}
                if values <= {True, False} and all(isinstance(v, bool) for v in values):
                    continue
                if len(values) > 1 or label is None or label.style not in ("plain", "index"):
                    raise Mismatch
                yield f"{label.stem}{label.index if label.style == 'index' else ''}", literal(values.pop())
            case SelectPart(arms=arms):
                for arm in arms:
                    yield from bias_starts(arm) if arm else ()
            case LoopPart(body=body) | HeadPart(region=body):
                yield from bias_starts(body)
            case UnrolledPart(parts=parts):
                for body, _ in parts:
                    yield from bias_starts(body)
            case _:
                pass


def _first_name(region: RegionPart | None) -> str | None:
    """The name of the first module that a region makes."""
    for part in region.parts if region else ():
        match part:
            case ApplyPart(label=Label(style="plain", stem=stem), again=False):
                return stem
            case SelectPart():
                found = next((n for arm in part.arms if (n := _first_name(arm))), None)
                if found:
                    return found
            case _:
                pass
    return None
