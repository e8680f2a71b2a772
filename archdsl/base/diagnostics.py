"""What can be wrong with a spec: codes, sentences, and the exception that carries them.

Detection is in the stages, wording is here, drawing is in `render`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from archdsl.base import limits
from archdsl.base.source import Source, Span

CATALOGUE: dict[str, tuple[str, str]] = {
    # syntax
    "unexpected": ("E0101", "unexpected {found}"),
    "bad-character": ("E0102", "unexpected character {found}"),
    "unfinished": ("E0103", "the spec ends too early"),
    "nothing-here": ("E0104", "there is no network in {name}"),
    "stray-doc": ("E0105", "this documentation comment documents nothing"),
    # names
    "unknown-name": ("E0201", "unknown name `{name}`"),
    "defined-twice": ("E0202", "`{name}` is defined twice"),
    "unused-parameter": ("E0203", "parameter `{name}` of `{owner}` is never used"),
    "unused-let": ("E0204", "`{name}` is never used"),
    "shadowed": ("E0205", "`{name}` hides another `{name}`"),
    "unknown-data": ("E0206", "unknown data set `{name}`"),
    "bad-import": ("E0207", "`{file}` has no definition `{name}`"),
    "unused-import": ("E0209", "`{name}` is imported and never used"),
    "import-cycle": ("E0208", "`{file}` imports itself"),
    # calls
    "repeated-argument": ("E0301", "argument `{name}` is given twice"),
    "unknown-argument": ("E0302", "`{callee}` has no parameter `{name}`"),
    "missing-argument": ("E0303", "`{callee}` needs {names}"),
    "too-many-arguments": ("E0304", "`{callee}` takes {most}, not {given}"),
    "bad-argument": ("E0305", "`{name}` of `{callee}` must be {expected}, not {found}"),
    "not-a-choice": ("E0306", "`{name}` of `{callee}` must be {choices}, not {found}"),
    "not-callable": ("E0307", "{found} cannot be called"),
    # requirements
    "require": ("E0401", "{message}"),
    "expect": ("E0402", "expected {what} {expected}, but the network has {actual}"),
    "bad-expect": ("E0403", "{problem}"),
    "misplaced": ("E0405", "`{what}` has no effect here"),
    "bad-message": ("E0406", "a message shows values by name, as in {{depth}}, and this is {found}"),
    "bad-setting": ("E0404", "{problem}"),
    # values
    "inexact": ("E0501", "{left} / {right} is not a whole number"),
    "zero-division": ("E0502", "division by zero"),
    "bad-operand": ("E0503", "`{operator}` cannot join {left} and {right}"),
    "bad-condition": ("E0504", "a condition must be true or false, not {found}"),
    "bad-index": ("E0505", "{problem}"),
    "not-a-value": ("E0506", "expected {expected}, found {found}"),
    "bad-attribute": ("E0507", "{owner} has no `{name}`"),
    "bad-count": ("E0508", "{what} must be a whole number of at least {least}, not {found}"),
    "no-classes": ("E0509", "the number of classes is not known"),
    # shapes
    "unequal-shapes": ("E0601", "{what} of unequal shapes: {shapes}"),
    "shape": ("E0602", "{message}"),
    "share-shape": ("E0603", "shared module `{name}` is applied to {second}, after {first}"),
    # structure
    "label-twice": ("E0701", "two modules are named `{name}`"),
    "needs-label": ("E0702", "{problem}"),
    "bad-label": ("E0703", "{problem}"),
    "not-sequential": ("E0704", "a numbered list holds modules one after the other, not {found}"),
    "unused-value": ("E0705", "this is computed and never used"),
    "no-result": ("E0706", "`{name}` computes nothing"),
    "after-result": ("E0707", "a definition has one result, and this is the second"),
    "needs-input": ("E0708", "`{name}` reads an input, and there is none here"),
    "recursion": ("E0709", "definitions are nested more than {limit} deep"),
    "auxiliary": ("E0710", "{problem}"),
    # files
    "no-file": ("E0801", "cannot read {name}: {reason}"),
    "not-text": ("E0802", "{name} is not UTF-8 text"),
    "same-name": ("E0803", "two networks are named `{name}`"),
    # searches and lists of networks
    "hole": ("E0806", "`?` stands for a number that is not given"),
    "no-match": ("E0805", "{problem}"),
    "bad-sweep": ("E0804", "{problem}"),
    # placement
    "bad-place": ("E0901", "{problem}"),
    # limits
    "too-large": ("E1001", "{problem}"),
    "too-deep": ("E1002", "{problem}"),
    "outside": ("E1003", "`{file}` lies outside the folder of the spec"),
}
"""Key -> code and sentence. The sentence stands alone: lower case, no full stop, names in backticks."""


@dataclass(frozen=True, slots=True)
class Label:
    """A span and what to say beside it."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A further fact, with the place it speaks of where there is one."""

    text: str
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake: what is wrong, where, what else to know, and what would mend it."""

    key: str
    message: str
    primary: Label | None
    secondary: tuple[Label, ...] = ()
    notes: tuple[Note, ...] = ()
    help: str | None = None
    within: tuple[tuple[str, Span], ...] = ()
    """For a place in the library: the definition that it is in and where that is used, and so on outwards."""

    @property
    def code(self) -> str:
        return CATALOGUE[self.key][0]


class ArchError(Exception):
    """The spec is wrong; carries one diagnostic for each independent mistake."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in diagnostics))
        self.diagnostics = diagnostics


class Gathering:
    """Runs parts that do not depend on each other, and raises what is wrong with all of them at once.

    A part that cannot be looked at because of a mistake elsewhere raises an `ArchError` of no diagnostics.

    >>> parts = Gathering()
    >>> with parts:
    ...     raise ArchError()
    >>> parts.failed
    True
    """

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self.failed = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> bool:
        if not isinstance(problem, ArchError) or any(d.key in FATAL for d in problem.diagnostics):
            return False
        self.failed = True
        self.found += problem.diagnostics
        return True

    def settle(self) -> None:
        """Raise what was found."""
        if self.failed:
            raise ArchError(*self.found)


FATAL = frozenset({"too-large", "too-deep", "recursion"})
"""After these nothing else is worth looking at."""


def arranged(problems: Iterable[Diagnostic], source: Source) -> tuple[Diagnostic, ...]:
    """In the order of a source, those of other files behind; each once, and not too many."""
    unique = {(d.key, d.message, d.primary.span if d.primary else None): d for d in problems}

    def place(found: Diagnostic) -> tuple[bool, int]:
        if found.primary is None:
            return False, 0
        return found.primary.span.source.name != source.name, found.primary.span.start

    return tuple(sorted(unique.values(), key=place)[: limits.PROBLEMS])


def moved(found: Diagnostic, source: Source, by: int) -> Diagnostic:
    """What was found in a part of a source, in the whole; the part begins at offset `by`."""

    def label(old: Label) -> Label:
        return replace(old, span=Span(source, old.span.start + by, old.span.end + by))

    primary = label(found.primary) if found.primary else None
    return replace(found, primary=primary, secondary=tuple(label(s) for s in found.secondary))


def diagnose(
    key: str,
    span: Span | None,
    text: str = "",
    *,
    secondary: tuple[Label, ...] = (),
    notes: tuple[Note, ...] = (),
    help: str | None = None,
    **words: object,
) -> Diagnostic:
    """Word a diagnostic of the catalogue: `words` fill the braces of its sentence."""
    sentence = CATALOGUE[key][1].format(**{name: _short(word) for name, word in words.items()})
    return Diagnostic(key, sentence, Label(span, text) if span else None, secondary, notes, help)


def _short(word: object) -> object:
    """What a sentence quotes, without the middle of what is too long to read."""
    text = str(word)
    return word if len(text) <= 400 else f"{text[:200]}...{text[-100:]}"


def error(key: str, span: Span | None, text: str = "", **rest: object) -> ArchError:
    """An `ArchError` of one diagnostic; arguments as for `diagnose`."""
    return ArchError(diagnose(key, span, text, **rest))  # type: ignore[arg-type]
