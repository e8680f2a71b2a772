"""What surrounds a place in a text that is being written: brackets, calls and local names, from its tokens alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from archdsl.base import limits

KEYWORDS = frozenset(
    [
        "and",
        "as",
        "aux",
        "block",
        "concat",
        "else",
        "expect",
        "false",
        "flow",
        "for",
        "from",
        "if",
        "import",
        "in",
        "init",
        "let",
        "mean",
        "net",
        "none",
        "not",
        "on",
        "or",
        "place",
        "recipe",
        "repeat",
        "require",
        "share",
        "sum",
        "then",
        "train",
        "true",
    ]
)
"""The words of the grammar."""

_TOKEN = re.compile(
    r'(?P<string>"(?:\\[^\n]|[^"\\\n])*"?)|(?P<comment>#[^\n]*)|(?P<end>[\n;])|(?P<number>[0-9]\w*(?:\.[0-9]\w*)?)'
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<sign>->|[=!<>]=|//|[^\s])"
)
_ITEM = re.compile(r"^(?:from|block|flow|net|recipe)\b", re.MULTILINE)
_CONTINUES = frozenset(["on", "else", "then", "and", "or"])
"""Words before which a new line ends nothing."""

_OPERATORS = frozenset(["->", "+", "-", "*", "/", "//", "%", "=", "==", "!=", "<", "<=", ">", ">=", ",", "|", ":"])
_OPENS = {")": ("(",), "]": ("[", "x["), "}": ("{",)}


@dataclass(slots=True)
class Binding:
    """A local name."""

    kind: Literal["parameter", "let", "share", "index", "element"]
    name: str
    offset: int
    """Where it is introduced."""
    target: str | None = None
    """The name with which its value, or its default, begins."""


@dataclass(slots=True)
class Bracket:
    """A bracket that is open, or, outermost, the item."""

    sign: Literal["", "(", "[", "x[", "{"]
    opener: str | None = None
    """Before it: the name of what is called, or the word of a clause."""
    names: dict[str, Binding] = field(default_factory=dict)
    is_head: bool = False
    """It holds the parameters of a definition."""
    first: str = ""
    """The word with which the statement at hand begins."""
    is_fresh: bool = True
    """A statement may begin here."""
    positional: int = 0
    """Arguments before the one at hand that have no name."""
    given: list[str] = field(default_factory=list)
    """Names of arguments, that of the one at hand included."""
    argument: str | None = None
    """The name of the argument at hand, if it has one."""

    @property
    def is_call(self) -> bool:
        return self.sign in ("(", "x[") and self.opener is not None and not self.is_head


@dataclass(slots=True)
class Context:
    """What surrounds a place."""

    brackets: list[Bracket]
    """Open brackets; the first is the item, the last is the innermost."""
    previous: tuple[str, ...]
    """The tokens before, the nearest last; a new line that ends a statement is one."""
    inside: Literal["", "string", "comment"]
    pending: Mapping[str, Binding]
    """The names of a loop whose body has not begun."""

    @property
    def innermost(self) -> Bracket:
        return self.brackets[-1]

    @property
    def before(self) -> str:
        """The token before."""
        return self.previous[-1] if self.previous else ""

    @property
    def names(self) -> dict[str, Binding]:
        """The local names that are visible."""
        found: dict[str, Binding] = {}
        for bracket in [] if self.begins_item else self.brackets:
            found |= bracket.names
        return {**found, **self.pending}

    @property
    def begins_item(self) -> bool:
        """Whether an item may begin here."""
        return len(self.brackets) == 1 and self.innermost.is_fresh

    @property
    def begins_argument(self) -> bool:
        """Whether an argument of a call begins here."""
        return self.innermost.is_call and self.before in ("(", ",", "[")


def context(text: str, offset: int) -> Context:
    """What surrounds an offset of a text that may be unfinished or wrong."""
    reader = _Reader()
    starts = [m.start() for m in _ITEM.finditer(text, max(offset - limits.SOURCE, 0), offset)]
    inside: Literal["", "string", "comment"] = ""
    for token in _TOKEN.finditer(text, starts[-1] if starts else max(offset - limits.SOURCE, 0)):
        if token.start() >= offset:
            break
        if token.lastgroup == "comment":
            inside = "comment" if token.end() >= offset else ""
        elif token.lastgroup == "string" and (token.end() > offset or token[0].count('"') == 1):
            inside = "string" if token.end() >= offset else ""
        else:
            reader.read(token.lastgroup or "", token[0], token.start(), text[token.start() - 1 : token.start()])
    return Context(reader.stack, tuple(reader.previous[-3:]), inside, reader.pending)


class _Reader:
    """Reads tokens one after the other."""

    def __init__(self) -> None:
        self.stack = [Bracket("")]
        self.previous: list[str] = []
        self.pending: dict[str, Binding] = {}
        self.bound: Binding | None = None
        self.closed: str | None = None
        """What the bracket that was closed last belonged to."""

    def read(self, kind: str, token: str, offset: int, beside: str) -> None:
        """Read a token; `beside` is the character before it."""
        top = self.stack[-1]
        match kind:
            case "end":
                if top.sign not in ("", "{") or self._back(1) in _OPERATORS:
                    return
                top.is_fresh = True
                token = "\n"
            case "name":
                self._name(token, offset, top)
            case "open":
                self._open(token, beside, top)
            case "close":
                self._close(token)
            case _:
                self._sign(token, top)
        self.previous.append(token)

    def _back(self, by: int) -> str:
        return self.previous[-by] if len(self.previous) >= by else ""

    def _name(self, name: str, offset: int, top: Bracket) -> None:
        if top.is_fresh and name not in _CONTINUES:
            if len(self.stack) == 1:
                self.stack[0] = top = Bracket("")
            top.first = name
        top.is_fresh = False
        match self._back(1):
            case "let" | "share" as kind:
                self._bind(top.names, Binding("let" if kind == "let" else "share", name, offset))
            case "as":
                self._bind(self.pending, Binding("index", name, offset))
            case "for":
                self._bind(self.pending, Binding("element", name, offset))
            case "," if self._back(3) == "for" and self._back(2) in self.pending:
                self.pending[self._back(2)].kind = "index"
                self._bind(self.pending, Binding("element", name, offset))
            case "(" | "," if top.is_head:
                self._bind(top.names, Binding("parameter", name, offset))
            case "*" if top.is_head and self._back(2) in ("(", ","):
                self._bind(top.names, Binding("parameter", name, offset))
            case "=" if self.bound and self._back(2) == self.bound.name and name not in KEYWORDS:
                self.bound.target = name

    def _bind(self, names: dict[str, Binding], binding: Binding) -> None:
        names[binding.name] = self.bound = binding

    def _open(self, sign: str, beside: str, top: Bracket) -> None:
        before = self._back(1)
        is_name = re.fullmatch(r"[A-Za-z_]\w*", before) is not None
        match sign:
            case "(":
                opener = before if is_name and (before not in KEYWORDS or before == "mean") else None
                opener = self.closed if before in (")", "]") else opener
                is_head = (
                    len(self.stack) == 1 and self._back(2) in ("block", "flow", "net") and top.first == self._back(2)
                )
                self.stack.append(Bracket("(", opener, is_head=is_head))
            case "[":
                is_callee = re.fullmatch(r"[A-Za-z_]\w*|[)\]]", self._back(2)) is not None
                if before == "x" and is_callee and self._back(2) not in KEYWORDS:
                    opener = self.closed if self._back(2) in (")", "]") else self._back(2)
                    self.stack.append(Bracket("x[", opener))
                else:
                    self.stack.append(Bracket("["))
            case _:
                is_label = is_name and before not in KEYWORDS and bool(re.match(r"\w", beside))
                names, self.pending = self.pending, {}
                self.stack.append(Bracket("{", before if is_name else None, names, is_fresh=not is_label))

    def _close(self, sign: str) -> None:
        matching = [i for i, b in enumerate(self.stack) if b.sign in _OPENS[sign]]
        if not matching:
            return
        closed = self.stack[matching[-1]]
        del self.stack[matching[-1] :]
        self.closed = closed.opener
        if closed.is_head:
            self.stack[-1].names |= closed.names

    def _sign(self, sign: str, top: Bracket) -> None:
        if sign == "=" and top.is_call and self._back(2) in ("(", ",", "["):
            top.argument = self._back(1)
            top.given.append(top.argument)
        elif sign == ",":
            top.positional += top.argument is None
            top.argument = None
        top.is_fresh = False
