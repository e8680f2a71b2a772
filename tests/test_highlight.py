"""Highlighting: the lexer for Pygments and the TextMate grammar, against the grammar of the language and the specs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lark import Lark
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Whitespace, _TokenType

from archdsl.frontend.grammar import Newlines
from archdsl.frontend.parser import grammar_text
from archdsl.highlight import ArchLexer

ROOT = Path(__file__).resolve().parents[1]
SPECS = sorted([*(ROOT / "specs").rglob("*.arch"), *(ROOT / "tests" / "golden").rglob("*.arch")])
WRONG = sorted((ROOT / "tests" / "errors").glob("*.arch"))
TEXTMATE = json.loads((ROOT / "grammars" / "arch.tmLanguage.json").read_text(encoding="utf-8"))
REPOSITORY = TEXTMATE["repository"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def keywords() -> list[str]:
    """The words of the language, out of its grammar."""
    text = re.sub(r"^//.*", "", grammar_text(), flags=re.MULTILINE)
    joins = re.search(r"^JOIN\S*: /\((.+?)\)", text, re.MULTILINE)
    assert joins
    return sorted({*re.findall(r'"([a-z]+)"', text), *joins[1].split("|")})


PLACES = ("{} a", "{} {{ a 1 }}", "{} a {{ b 1 }}", "a {} b", 'from "a.arch" {} A')
"""Each keyword is one in at least one of these places."""


def test_there_is_something_to_highlight() -> None:
    assert len(SPECS) > 50 and len(WRONG) > 100 and len(keywords()) > 25


# ---- Pygments


def is_keyword(kind: _TokenType) -> bool:
    return any(kind in group for group in (Keyword, Operator.Word, Name.Builtin.Pseudo))


@pytest.mark.parametrize("path", SPECS, ids=named)
def test_spec_is_lexed_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tokens = list(ArchLexer().get_tokens_unprocessed(text))
    assert "".join(value for _, _, value in tokens) == text
    assert not [value for _, kind, value in tokens if kind in Error]


TRICKY = """
net tricky(
  block,
  flow=if a then in else in -> F(1),
) {
  let y = x[0] + x [0]
  aux weight: a -> block: { in }; let z = in
  F(
    let, share=expect
  ) -> # more
    train + in
  concat {
    in
    let: F
  } -> F x[4] -> x[0]: G
  y in in
}
"""
"""Words in places where they are keywords, and in others where they are not. It makes no sense otherwise."""


@pytest.mark.parametrize(
    "text", [*(p.read_text(encoding="utf-8") for p in SPECS), TRICKY], ids=[*map(named, SPECS), "tricky"]
)
def test_keywords_are_those_of_the_parser(text: str) -> None:
    newlines = Newlines()
    newlines.text = text
    parser = Lark(grammar_text(), parser=None, lexer="basic", start="file", postlex=newlines)
    expected = {
        token.start_pos
        for token in parser.lex(text)
        if token.type == "TIMES_OPEN" or (re.fullmatch("[a-z]+", token) and token.type not in ("NAME", "LABEL"))
    }
    found = {start for start, kind, _ in ArchLexer().get_tokens_unprocessed(text) if is_keyword(kind)}
    assert found == expected


@pytest.mark.parametrize("path", WRONG, ids=named)
def test_wrong_spec_is_lexed_too(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "".join(value for _, _, value in ArchLexer().get_tokens_unprocessed(text)) == text


@pytest.mark.parametrize("word", keywords())
def test_lexer_knows(word: str) -> None:
    tokens = [token for place in PLACES for token in ArchLexer().get_tokens(place.format(word))]
    assert any(value == word and is_keyword(kind) for kind, value in tokens)


SAMPLE = r"""
## A stage.
block Stage(*sizes, order: pre | post = pre) { # two
  require order in [pre], "not \"{order}\""
  let x = in.channels
  for i, n in sizes { layer{i + 1}: F(n, block=x[0])x[k=4] } -> split(
    block, 1.5
  )
}
net a = Stage(?[2..8]) on 3x32x32 { expect params 36.5M; train { flip false } }
"""

TOKENS = [
    [(String.Doc, "## A stage.")],
    [(Keyword.Declaration, "block"), (Name.Function, "Stage"), (Punctuation, "("), (Operator, "*")],
    [(Name.Variable, "sizes"), (Punctuation, ","), (Name.Variable, "order"), (Punctuation, ":")],
    [(Name.Constant, "pre"), (Operator, "|"), (Name.Constant, "post"), (Operator, "="), (Name, "pre")],
    [(Punctuation, ")"), (Punctuation, "{"), (Comment.Single, "# two")],
    [(Keyword, "require"), (Name, "order"), (Operator.Word, "in"), (Punctuation, "["), (Name, "pre")],
    [(Punctuation, "]"), (Punctuation, ","), (String.Double, '"'), (String.Double, "not "), (String.Escape, '\\"')],
    [(String.Interpol, "{order}"), (String.Escape, '\\"'), (String.Double, '"')],
    [(Keyword.Declaration, "let"), (Name.Variable, "x"), (Operator, "="), (Name.Builtin.Pseudo, "in")],
    [(Operator, "."), (Name.Attribute, "channels")],
    [(Keyword, "for"), (Name, "i"), (Punctuation, ","), (Name, "n"), (Operator.Word, "in"), (Name, "sizes")],
    [(Punctuation, "{"), (Name.Label, "layer"), (Punctuation, "{"), (Name, "i"), (Operator, "+")],
    [(Number.Integer, "1"), (Punctuation, "}"), (Punctuation, ":"), (Name.Class, "F"), (Punctuation, "(")],
    [(Name, "n"), (Punctuation, ","), (Name.Variable, "block"), (Operator, "="), (Name, "x"), (Punctuation, "[")],
    [(Number.Integer, "0"), (Punctuation, "]"), (Punctuation, ")"), (Operator.Word, "x"), (Punctuation, "[")],
    [(Name.Variable, "k"), (Operator, "="), (Number.Integer, "4"), (Punctuation, "]"), (Punctuation, "}")],
    [(Operator, "->"), (Name.Function, "split"), (Punctuation, "(")],
    [(Name, "block"), (Punctuation, ","), (Number.Float, "1.5"), (Punctuation, ")"), (Punctuation, "}")],
    [(Keyword.Declaration, "net"), (Name.Function, "a"), (Operator, "="), (Name.Class, "Stage"), (Punctuation, "(")],
    [(Number, "?[2..8]"), (Punctuation, ")"), (Keyword, "on"), (Number, "3x32x32"), (Punctuation, "{")],
    [(Keyword, "expect"), (Name.Attribute, "params"), (Number, "36.5M"), (Punctuation, ";")],
    [(Keyword, "train"), (Punctuation, "{"), (Name.Attribute, "flip"), (Keyword.Constant, "false")],
    [(Punctuation, "}"), (Punctuation, "}")],
]
"""What the sample is made of, blanks left out."""


def test_tokens_of_the_sample() -> None:
    found = [(kind, value) for kind, value in ArchLexer().get_tokens(SAMPLE) if kind is not Whitespace]
    assert found == [token for part in TOKENS for token in part]


def test_only_the_lexer_needs_pygments() -> None:
    users = [p.name for p in (ROOT / "archdsl").rglob("*.py") if "pygments" in p.read_text(encoding="utf-8")]
    assert users == ["highlight.py"]


# ---- TextMate


def rules(node: Any = TEXTMATE) -> Iterator[dict[str, Any]]:
    """Every object of the grammar."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from rules(child)


def scopes(rule: dict[str, Any], line: str) -> dict[str, str]:
    """The texts that a rule finds in a line, or begins with -> their scopes."""
    found = re.search(rule.get("match") or rule["begin"], line)
    if found is None:
        return {}
    captures = rule.get("captures") or rule.get("beginCaptures") or {"0": rule}
    return {found[int(group)]: scope["name"].removesuffix(".arch") for group, scope in captures.items()}


def test_heading() -> None:
    assert (TEXTMATE["scopeName"], TEXTMATE["fileTypes"]) == ("source.arch", ["arch"])


def test_includes_exist_and_every_entry_is_included() -> None:
    included = {rule["include"] for rule in rules() if "include" in rule}
    assert included == {f"#{name}" for name in REPOSITORY}


@pytest.mark.filterwarnings("error")
def test_regexes_compile_and_have_the_groups_that_are_named() -> None:
    for rule in rules():
        assert ("begin" in rule) == ("end" in rule)
        for key, captures in (("match", "captures"), ("begin", "beginCaptures"), ("end", "endCaptures")):
            if key in rule:
                groups = re.compile(rule[key]).groups
                assert all(int(group) <= groups for group in rule.get(captures, ())), rule


def test_scopes_are_of_the_language() -> None:
    names = [rule["name"] for rule in rules() if isinstance(rule.get("name"), str) and rule is not TEXTMATE]
    assert names and all(name.endswith(".arch") for name in names)


@pytest.mark.parametrize("word", keywords())
def test_textmate_grammar_knows(word: str) -> None:
    found = [
        scopes(rule, place.format(word)).get(word, "")
        for place in PLACES
        for rule in REPOSITORY.values()
        if "match" in rule or "begin" in rule
    ]
    assert any(scope.startswith(("keyword", "storage", "constant.language", "variable.language")) for scope in found)


@pytest.mark.parametrize(
    ("rule", "line", "expected"),
    [
        ("documentation", "  ## A stage.", {"## A stage.": "comment.line.documentation"}),
        ("documentation", "F # ## no", {}),
        ("comment", "F # two", {"# two": "comment.line.number-sign"}),
        ("import", 'from "a.arch" import A', {"from": "keyword.control.import"}),
        ("imported", 'from "a.arch" import A', {"import": "keyword.control.import"}),
        (
            "definition",
            "block F(n) {",
            {"block": "storage.type", "F": "entity.name.function", "(": "punctuation.definition.parameters.begin"},
        ),
        ("definition", "F(block, net)", {}),
        (
            "definition-without-parameters",
            "net a = F",
            {"net": "storage.type", "a": "entity.name.function"},
        ),
        ("definition-without-parameters", "F(block=basic)", {}),
        ("variable", "F { let y = 1 }", {"let": "storage.type", "y": "variable.other.definition"}),
        ("figure-clause", "{ expect params 1 }", {"expect": "keyword.control", "params": "variable.other.property"}),
        ("clause", '  require n > 0, ""', {"require": "keyword.control"}),
        ("clause", "  require: F", {}),
        ("setting", "  epochs 12", {"epochs": "variable.other.property"}),
        ("label", "block: F", {"block": "entity.name.label", ":": "punctuation.separator"}),
        (
            "label-with-index",
            "layer{i + 1}: F",
            {"layer": "entity.name.label", "{": "punctuation.section.brackets.begin"},
        ),
        (
            "label-with-index",
            "branches[i]: F",
            {"branches": "entity.name.label", "[": "punctuation.section.brackets.begin"},
        ),
        ("label-with-index", "branches[i] + F", {}),
        ("multiply", "F(3)x[k=4]", {"x": "keyword.operator.multiply", "[": "punctuation.section.brackets.begin"}),
        ("multiply", "F -> x[0]", {}),
        ("contains", "for w in in", {"in": "keyword.operator.logical"}),
        ("contains", "a + in", {}),
        ("keyword", "else if n", {"else": "keyword.control"}),
        ("argument", "block=basic", {"block": "variable.parameter", "=": "keyword.operator.assignment"}),
        ("argument", "block == basic", {}),
        ("string", 'require a, "b"', {'"': "string.quoted.double"}),
        ("hole", "F(?[2..8])", {"?[2..8]": "constant.numeric.hole"}),
        ("shape", "on 3x32x32", {"3x32x32": "constant.numeric.shape"}),
        ("figure", "params 36.5M", {"36.5M": "constant.numeric.figure"}),
        ("number", "conv1: F(1e-4)", {"1e-4": "constant.numeric"}),
        ("attribute", "a.sum", {".": "punctuation.accessor", "sum": "variable.other.property"}),
        ("block", "in -> Conv(3)", {"Conv": "support.class"}),
        ("call", "a -> stage (3)", {"stage": "entity.name.function.call"}),
        ("continuation", "a -> # more", {"->": "keyword.operator"}),
        ("continuation", "a -> F", {}),
    ],
)
def test_rule(rule: str, line: str, expected: dict[str, str]) -> None:
    assert scopes(REPOSITORY[rule], line) == expected
