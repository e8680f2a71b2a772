"""Text -> syntax tree: the grammar in grammars/arch.lark, and the nodes that its rules build."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, Tree, v_args
from lark.exceptions import LarkError, UnexpectedCharacters, UnexpectedToken, VisitError
from lark.tree import Meta

from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.base.source import Source, Span
from archdsl.cache import cache_folder
from archdsl.frontend import syntax
from archdsl.frontend.parser import grammar_text, number
from archdsl.frontend.slips import YAML
from archdsl.frontend.syntax_errors import explain

# A text that is not closed is one as well, to the end of its line: else every quote in it would be looked at again.
_COMMENT_OR_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"?|#[^\n]*')
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"?|#[^\n]*|\w+|[^\w\s]')
_BLANKS = re.compile(r"(?:[ \t\r\n\f;]|#[^\n]*)*")
_CONTINUES = re.compile(r"->|[-+*/%,)\]}]|[=!]=|[<>]|(?:else|then|and|or|on)\b|$")
_EXPECTS_MORE = frozenset(
    [
        "LBRACE",
        "COMMA",
        "EQUAL",
        "STAR",
        "PLUS",
        "MUL",
        "COMPARE",
        "COLON",
        "MINUS",
        "__ARROW",
        "IF",
        "THEN",
        "ELSE",
        "AND",
        "OR",
        "NOT",
        "ON",
        "VBAR",
    ]
)


_ITEMS = frozenset({"BLOCK", "FLOW", "NET", "RECIPE", "FROM", "IMPORT"})
_STATEMENTS = frozenset({"LET", "SHARE", "REQUIRE", "EXPECT", "TRAIN", "INIT", "PLACE", "AUX"})
_BEGINNERS = _ITEMS | _STATEMENTS
"""Keywords only where an item or a statement begins; `import` after the file it imports from."""

_BEGINNINGS = {"IMPORT": ("STRING",)}


class Newlines:
    """Drops the new lines that end no statement: inside ( ) and [ ], beside braces, around operators.

    A `;` ends one wherever it stands, and is dropped only where there is none to end.
    Gives words back that are no keywords where they stand.
    """

    always_accept = ()
    text = ""

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        brackets: list[str] = []
        previous: str | None = None
        looked_to, continues = -1, False
        for token in stream:
            if token.type == "_NL":
                end = token.end_pos or 0
                if end > looked_to:
                    blanks = _BLANKS.match(self.text, end)
                    looked_to = blanks.end() if blanks else end
                    continues = _CONTINUES.match(self.text, looked_to) is not None
                if token == ";":
                    if self.text.startswith("-", looked_to) and not self.text.startswith("->", looked_to):
                        token.type = ";"  # no statement begins with a sign: in a new line it would go on
                    drops = previous == "LBRACE" or self.text[looked_to : looked_to + 1] in ("}", "")
                else:
                    drops = previous in _EXPECTS_MORE or continues or bool(brackets and brackets[-1] in "([")
                if drops or previous is None or previous == "_NL":
                    continue
            elif token.type in _BEGINNERS and previous not in _BEGINNINGS.get(token.type, (None, "_NL", "LBRACE")):
                token.type = "NAME"
            elif token.type == "RECIPE" and brackets:
                token.type = "NAME"  # a setting
            elif token.type == "TIMES_OPEN" and previous not in ("NAME", "RPAR", "RSQB"):
                # An index of something called x.
                bracket = token.update("LSQB", "[")
                bracket.start_pos = (token.end_pos or 1) - 1
                yield token.update("NAME", "x")
                token = bracket
                brackets.append("[")
            elif token[-1:] in "([{" and token.type != "STRING":
                brackets.append(token[-1])
            elif token in (")", "]", "}") and brackets:
                brackets.pop()
            previous = "__ARROW" if token == "->" else token.type
            yield token


_NEWLINES = Newlines()

_LEVELS = 3 * limits.SYNTAX
"""Of a Lark tree: a call has three."""


@cache
def _lark() -> Lark:
    folder = cache_folder()
    return Lark(
        grammar_text(),
        parser="lalr",
        lexer="basic",
        start="file",
        propagate_positions=True,
        maybe_placeholders=True,
        postlex=_NEWLINES,
        cache=str(folder / "grammar") if folder else False,
    )


def parse_text(source: Source) -> syntax.File:
    """The syntax tree of a file. Raises ArchError with the place and, for common mistakes, the cure."""
    comments = _comments(source)
    builder = _Builder(source, comments)
    limits.deep()
    _measure(source)
    tree = _tree(source)
    _bounded(tree, source)
    try:
        items = builder.transform(tree)
    except VisitError as problem:
        raise problem.orig_exc from None
    _refuse_yaml(items)
    doc = builder.head_doc()
    if builder.docs:
        stray = builder.docs[min(builder.docs)]
        help = "`##` documents the definition below it; other comments start with one `#`"
        raise error("stray-doc", stray.span, help=help)
    return syntax.File(source, items, comments, doc)


def _tree(source: Source) -> Any:
    _NEWLINES.text = source.text
    try:
        return _lark().parse(source.text)
    except UnexpectedToken as problem:
        token = problem.token
        offset = len(source.text) if token.type == "$END" else token.start_pos or 0
        raise explain(source, offset, None if token.type == "$END" else token, problem.accepts) from None
    except UnexpectedCharacters as problem:
        raise explain(source, problem.pos_in_stream or 0, None, set()) from None
    except LarkError as problem:  # pragma: no cover - Lark's other errors come from the grammar, not the text
        raise AssertionError(f"the parser failed: {problem}") from problem


def _refuse_yaml(items: tuple[syntax.Item, ...]) -> None:
    """`depth: 28` outside of any definition would be a label on a number."""
    bare = [i.value for i in items if isinstance(i, syntax.NamedNet) and i.name is None]
    bare = [value.operand if isinstance(value, syntax.Unary) else value for value in bare]  # - an item of a list
    labelled = [value for value in bare if isinstance(value, syntax.Labelled)]
    if any(isinstance(value.body, syntax.Number | syntax.String | syntax.Constant) for value in labelled):
        span = labelled[0].label.span
        raise error("unexpected", span, found=f"`{span.text}`", help=YAML)


def _measure(source: Source) -> None:
    """Refuse what is too long or nested too deeply, before it is parsed."""
    depth = tokens = 0
    for match in _TOKEN.finditer(source.text):
        tokens += match[0][0] != "#"
        if tokens > limits.TOKENS:
            span = Span(source, match.start(), match.end())
            raise error("too-large", span, problem=f"more than {limits.TOKENS:,} words and signs in a file")
        if match[0] in "([{":
            depth += 1
            if depth > limits.SYNTAX:
                span = Span(source, match.start(), match.end())
                raise error("too-deep", span, problem=f"brackets are nested more than {limits.SYNTAX} deep")
        elif match[0] in ")]}":
            depth = max(depth - 1, 0)


def _bounded(tree: Tree[Token], source: Source) -> None:
    """Refuse a tree that is nested too deeply, without recursion."""
    level: list[Tree[Token]] = [tree]
    for _ in range(_LEVELS):
        level = [child for node in level for child in node.children if isinstance(child, Tree)]
        if not level:
            return
    meta = level[0].meta
    span = Span(source, meta.start_pos, meta.end_pos)
    raise error("too-deep", span, problem=f"more than {limits.SYNTAX} operators are nested")


def _comments(source: Source) -> tuple[syntax.Comment, ...]:
    found = _COMMENT_OR_STRING.finditer(source.text)
    return tuple(syntax.Comment(Span(source, m.start(), m.end())) for m in found if m[0].startswith("#"))


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


@v_args(meta=True, inline=True)
class _Builder(Transformer[Token, Any]):
    """Builds nodes and nothing else; every check comes later."""

    def __init__(self, source: Source, comments: tuple[syntax.Comment, ...]) -> None:
        super().__init__()
        self.source = source
        self.docs = {
            source.position(c.span.start)[0]: c
            for c in comments
            if c.text.startswith("##")
            and not source.line(source.position(c.span.start)[0])[: source.position(c.span.start)[1] - 1].strip()
        }

    # -- spans and documentation

    def _span(self, meta: Meta) -> Span:
        if meta.empty:
            return Span(self.source, 0, 0)
        return Span(self.source, meta.start_pos, meta.end_pos)

    def _at(self, token: Token) -> Span:
        return Span(self.source, token.start_pos or 0, token.end_pos or 0)

    def _doc(self, span: Span) -> str:
        """The `##` lines that end on the line above a definition."""
        first, column = self.source.position(span.start)
        if self.source.line(first)[: column - 1].strip():
            return ""  # it stands behind something, which the comment is above
        line = first - 1
        lines: list[str] = []
        while line in self.docs:
            lines.insert(0, self.docs.pop(line).text[2:].strip())
            line -= 1
        return "\n".join(lines)

    def head_doc(self) -> str:
        """The `##` lines left over, which must stand together at the top of the file."""
        lines = []
        first = next((i for i, text in enumerate(self.source.text.split("\n"), 1) if not _is_comment(text)), 1)
        for line in sorted(self.docs):
            if line > first:
                break
            lines.append(self.docs.pop(line).text[2:].strip())
        return "\n".join(lines)

    # -- items

    def file(self, meta: Meta, *items: syntax.Item | None) -> tuple[syntax.Item, ...]:
        return tuple(i for i in items if i is not None)

    def import_(self, meta: Meta, path: Token, *names: Token) -> syntax.Import:
        return syntax.Import(
            self._span(meta), self.string(meta, path, at=path), tuple(self.name(meta, n) for n in names)
        )

    def block(self, meta: Meta, name: Token, params: Any, body: Any) -> syntax.Block:
        span = self._span(meta)
        sequence = body if isinstance(body, syntax.ListExpr) else None
        statements = () if sequence else body
        return syntax.Block(span, str(name), self._at(name), params or (), statements, sequence, False, self._doc(span))

    def flow(self, meta: Meta, name: Token, params: Any, body: Any) -> syntax.Block:
        span = self._span(meta)
        return syntax.Block(span, str(name), self._at(name), params or (), body, None, True, self._doc(span))

    def net(self, meta: Meta, name: Token, params: Any, on: Any, body: Any) -> syntax.Net:
        span = self._span(meta)
        return syntax.Net(span, str(name), self._at(name), params or (), on, body, self._doc(span))

    def named_net(self, meta: Meta, name: Token, value: Any, on: Any, sweeps: Any, clauses: Any) -> syntax.NamedNet:
        span = self._span(meta)
        return syntax.NamedNet(span, str(name), self._at(name), value, on, sweeps, clauses or (), self._doc(span))

    def recipe(self, meta: Meta, name: Token, *settings: Any) -> syntax.Recipe:
        span = self._span(meta)
        given = tuple(s for s in settings if s is not None)
        return syntax.Recipe(span, str(name), self._at(name), given, self._doc(span))

    def bare(self, meta: Meta, value: Any, on: Any, sweeps: Any, clauses: Any) -> syntax.NamedNet:
        span = self._span(meta)
        return syntax.NamedNet(span, None, value.span, value, on, sweeps, clauses or (), self._doc(span))

    def sweeps(self, meta: Meta, *sweeps: syntax.Sweep) -> tuple[syntax.Sweep, ...]:
        return sweeps

    def sweep(self, meta: Meta, *swept: tuple[syntax.Name, Any]) -> syntax.Sweep:
        return syntax.Sweep(self._span(meta), tuple(name for name, _ in swept), tuple(items for _, items in swept))

    def swept(self, meta: Meta, name: Token, items: Any) -> tuple[syntax.Name, Any]:
        return self.name(meta, name), items

    def on(self, meta: Meta, data: Any, classes: Any) -> syntax.On:
        return syntax.On(self._span(meta), data, classes)

    def params(self, meta: Meta, *params: syntax.Param) -> tuple[syntax.Param, ...]:
        return params

    def param(self, meta: Meta, name: Token, choices: Any, default: Any) -> syntax.Param:
        return syntax.Param(self._span(meta), str(name), default, choices or ())

    def rest_param(self, meta: Meta, name: Token) -> syntax.Param:
        return syntax.Param(self._span(meta), str(name), rest=True)

    def choices(self, meta: Meta, *names: Token) -> tuple[str, ...]:
        return tuple(str(n) for n in names)

    # -- statements

    def body(self, meta: Meta, *statements: Any) -> tuple[syntax.Statement, ...]:
        return tuple(s for s in statements if s is not None)

    def let(self, meta: Meta, name: Token, value: Any) -> syntax.Let:
        return syntax.Let(self._span(meta), str(name), self._at(name), value)

    def share(self, meta: Meta, name: Token, value: Any) -> syntax.Share:
        return syntax.Share(self._span(meta), str(name), self._at(name), value)

    def require(self, meta: Meta, condition: Any, message: Token) -> syntax.Require:
        return syntax.Require(self._span(meta), condition, self.string(meta, message, at=message))

    def expect(self, meta: Meta, what: Token, figure: Token) -> syntax.Expect:
        return syntax.Expect(self._span(meta), str(what), self._at(what), str(figure), self._at(figure))

    def figure(self, meta: Meta, figure: Token) -> Token:
        return figure

    def train(self, meta: Meta, *settings: Any) -> syntax.Train:
        return syntax.Train(self._span(meta), tuple(s for s in settings if s is not None))

    def init(self, meta: Meta, *settings: Any) -> syntax.Init:
        return syntax.Init(self._span(meta), tuple(s for s in settings if s is not None))

    def setting(self, meta: Meta, name: Token, value: Any) -> syntax.Setting:
        return syntax.Setting(self._span(meta), str(name), self._at(name), value)

    def place(self, meta: Meta, kind: Token, devices: Token | None) -> syntax.Place:
        count = self.number(meta, devices) if devices else None
        return syntax.Place(self._span(meta), str(kind), self._at(kind), count)

    def aux(self, meta: Meta, weight: Any, value: Any) -> syntax.Auxiliary:
        return syntax.Auxiliary(self._span(meta), weight, value)

    def aux_of_name(self, meta: Meta, weight: Token, value: Any) -> syntax.Auxiliary:
        return syntax.Auxiliary(self._span(meta), self.name(meta, weight), value)

    def when(self, meta: Meta, condition: Any, body: Any) -> syntax.When:
        return syntax.When(self._span(meta), condition, body)

    def result(self, meta: Meta, value: Any) -> syntax.Result:
        return syntax.Result(value.span, value)

    # -- expressions

    def if_(self, meta: Meta, condition: Any, then: Any, otherwise: Any) -> syntax.If:
        return syntax.If(self._span(meta), condition, then, otherwise)

    def chain(self, meta: Meta, head: Any, *steps: Any) -> syntax.Chain:
        return syntax.Chain(self._span(meta), head, steps)

    def _binary(self, meta: Meta, operator: str, left: Any, right: Any) -> syntax.Binary:
        return syntax.Binary(self._span(meta), operator, left, right)

    def or_(self, meta: Meta, left: Any, right: Any) -> syntax.Binary:
        return self._binary(meta, "or", left, right)

    def and_(self, meta: Meta, left: Any, right: Any) -> syntax.Binary:
        return self._binary(meta, "and", left, right)

    def not_(self, meta: Meta, operand: Any) -> syntax.Unary:
        return syntax.Unary(self._span(meta), "not", operand)

    def compare(self, meta: Meta, left: Any, operator: Token, right: Any) -> syntax.Binary:
        return self._binary(meta, str(operator), left, right)

    def contains(self, meta: Meta, left: Any, right: Any) -> syntax.Binary:
        return self._binary(meta, "in", left, right)

    def binary(self, meta: Meta, left: Any, operator: Token, right: Any) -> syntax.Binary:
        return self._binary(meta, str(operator), left, right)

    def times(self, meta: Meta, left: Any, right: Any) -> syntax.Binary:
        return self._binary(meta, "*", left, right)

    def negative(self, meta: Meta, _sign: Token, operand: Any) -> syntax.Unary:
        return syntax.Unary(self._span(meta), "-", operand)

    def call(self, meta: Meta, callee: Any, args: Any) -> syntax.Call:
        return syntax.Call(self._span(meta), callee, args or ())

    def multiply(self, meta: Meta, callee: Any, _open: Token, args: Any) -> syntax.Multiply:
        return syntax.Multiply(self._span(meta), callee, args)

    def index(self, meta: Meta, owner: Any, index: Any) -> syntax.Index:
        return syntax.Index(self._span(meta), owner, index)

    def attribute(self, meta: Meta, owner: Any, name: Token) -> syntax.Attribute:
        return syntax.Attribute(self._span(meta), owner, str(name))

    def args(self, meta: Meta, *args: syntax.Argument) -> tuple[syntax.Argument, ...]:
        return args

    def arg(self, meta: Meta, value: Any) -> syntax.Argument:
        return syntax.Argument(self._span(meta), None, value)

    def named_arg(self, meta: Meta, name: Token, value: Any) -> syntax.Argument:
        return syntax.Argument(self._span(meta), str(name), value)

    def spread_arg(self, meta: Meta, value: Any) -> syntax.Argument:
        return syntax.Argument(self._span(meta), None, value, spread=True)

    # -- atoms

    def number(self, meta: Meta, token: Token) -> syntax.Number:
        value = number(token) if len(token) <= limits.DIGITS else None
        if value is None or limits.too_large(value):
            raise error("too-large", self._at(token), problem="a number beyond 64 bits")
        return syntax.Number(self._at(token), value)

    def shape(self, meta: Meta, token: Token) -> syntax.ShapeLiteral:
        dims = token.split("x")
        if any(len(d) > limits.DIGITS or limits.too_large(int(d)) for d in dims):
            raise error("too-large", self._at(token), problem="a number beyond 64 bits")
        return syntax.ShapeLiteral(self._at(token), tuple(int(d) for d in dims))

    def string(self, meta: Meta, token: Token, at: Token | None = None) -> syntax.String:
        value = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], token[1:-1])
        return syntax.String(self._at(at or token), value)

    def name(self, meta: Meta, token: Token) -> syntax.Name:
        return syntax.Name(self._at(token), str(token))

    def hole(self, meta: Meta, token: Token) -> syntax.Hole:
        bounds = [int(n) for n in re.findall(r"\d+", token)]
        return syntax.Hole(self._at(token), bounds[0] if bounds else 1, bounds[1] if bounds else None)

    def input(self, meta: Meta) -> syntax.Input:
        return syntax.Input(self._span(meta))

    def true(self, meta: Meta) -> syntax.Constant:
        return syntax.Constant(self._span(meta), True)

    def false(self, meta: Meta) -> syntax.Constant:
        return syntax.Constant(self._span(meta), False)

    def none(self, meta: Meta) -> syntax.Constant:
        return syntax.Constant(self._span(meta), None)

    def paren(self, meta: Meta, inner: Any) -> Any:
        return inner

    def list(self, meta: Meta, *items: Any) -> syntax.ListExpr:
        return syntax.ListExpr(self._span(meta), tuple(i for i in items if i is not None))

    def group(self, meta: Meta, body: Any) -> syntax.Group:
        return syntax.Group(self._span(meta), body)

    def labelled(self, meta: Meta, label: Any, body: Any) -> syntax.Labelled:
        return syntax.Labelled(self._span(meta), label, body)

    def plain_label(self, meta: Meta, stem: Token) -> syntax.LabelName:
        return syntax.LabelName(self._span(meta), str(stem), "plain")

    def index_label(self, meta: Meta, stem: Token, index: Any) -> syntax.LabelName:
        return syntax.LabelName(self._span(meta), str(stem[:-1]), "index", index)

    def item_label(self, meta: Meta, stem: Token, index: Any) -> syntax.LabelName:
        return syntax.LabelName(self._span(meta), str(stem[:-1]), "item", index)

    # -- loops

    def repeat(self, meta: Meta, count: Any, index: Token | None, body: Any) -> syntax.Loop:
        return self._loop(meta, "sequence", count, None, index, None, body)

    def for_(self, meta: Meta, index: Token | None, item: Token, items: Any, body: Any) -> syntax.Loop:
        return self._loop(meta, "sequence", None, items, index, item, body)

    def join_count(self, meta: Meta, kind: Token, count: Any, index: Token | None, body: Any) -> syntax.Loop:
        return self._loop(meta, str(kind), count, None, index, None, body)

    def join_for(self, meta: Meta, kind: Token, index: Any, item: Token, items: Any, body: Any) -> syntax.Loop:
        return self._loop(meta, str(kind), None, items, index, item, body)

    def _loop(self, meta: Meta, kind: Any, count: Any, items: Any, index: Any, item: Any, body: Any) -> syntax.Loop:
        span = self._span(meta)
        scope = body[0].span.to(body[-1].span) if body else span
        names = (str(index) if index else None, str(item) if item else None)
        return syntax.Loop(span, kind, count, items, *names, syntax.Group(scope, body))

    def join(self, meta: Meta, kind: Any, args: Any, *branches: Any) -> syntax.Join:
        return syntax.Join(self._span(meta), str(kind), args or (), tuple(b for b in branches if b is not None))  # type: ignore[arg-type]
