"""Syntax highlighting of `.arch` files by Pygments, which loads this file by its entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pygments.lexer import RegexLexer, bygroups, default, include
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SPACE = r"[ \t\f\r]+"
_GAP = r"[ \t\f\r]*"

_VALUE = ("line", "operand")

_groups: Callable[..., Any] = bygroups  # which has no type of its own


class ArchLexer(RegexLexer):
    """Follows a spec as its parser does: where a statement may begin, and where an operand is due.

    `block` and its like are keywords only in the first place; `in` is the input, and `x[0]` an index, in the second.
    """

    name = "archdsl"
    aliases: ClassVar[tuple[str, ...]] = ("arch", "archdsl")
    filenames: ClassVar[tuple[str, ...]] = ("*.arch",)

    tokens: ClassVar[dict[str, list[Any]]] = {
        # Here an item or a statement may begin. The top of the file and each pair of braces are such places.
        "root": [
            (r"##.*", String.Doc),
            include("between"),
            (
                rf"(block|flow|net)({_SPACE})({_NAME})",
                _groups(Keyword.Declaration, Whitespace, Name.Function),
                ("line", "defined"),
            ),
            (
                rf"(recipe)({_SPACE})({_NAME})({_GAP})(\{{)",
                _groups(Keyword.Declaration, Whitespace, Name.Function, Whitespace, Punctuation),
                ("line", "settings"),
            ),
            (rf"(let|share)({_SPACE})({_NAME})", _groups(Keyword.Declaration, Whitespace, Name.Variable), "line"),
            (rf"(expect)({_SPACE})({_NAME})", _groups(Keyword, Whitespace, Name.Attribute), "line"),
            (rf"(train|init|place)({_GAP})(\{{)", _groups(Keyword, Whitespace, Punctuation), ("line", "settings")),
            (rf"(aux)({_SPACE})({_NAME})(?={_GAP}:)", _groups(Keyword, Whitespace, Name), "line"),
            (rf"from\b(?!{_GAP}:)", Keyword.Namespace, "line"),
            (rf"(require|aux)\b(?!{_GAP}:)", Keyword, _VALUE),
            default(_VALUE),
        ],
        "settings": [include("between"), (_NAME, Name.Attribute, _VALUE), default("line")],
        "between": [
            include("blanks"),
            (r"\n", Whitespace),
            (r";", Punctuation),
            (r"\}", Punctuation, "#pop"),
        ],
        "blanks": [(_SPACE, Whitespace), (r"#.*", Comment.Single)],
        # The rest of a statement. A brace that ends it ends the statements around it too.
        "line": [
            (r"\n", Whitespace, "#pop"),
            (r";", Punctuation, "#pop"),
            (r"\}", Punctuation, "#pop:2"),
            (r"[)\]]", Punctuation),
            include("expression"),
        ],
        "operand": [
            include("blanks"),
            (r"\n", Whitespace),
            (rf"in\b(?!{_GAP}:)", Name.Builtin.Pseudo, "#pop"),
            (rf"x(?={_GAP}\[(?![^\[\]\n]*\]{_GAP}:))", Name, "#pop"),
            default("#pop"),
        ],
        "brackets": [
            (r"[\n;]", Whitespace),
            (r"[)\]}]", Punctuation, "#pop"),
            (rf"({_NAME})({_GAP})(=)(?!=)", _groups(Name.Variable, Whitespace, Operator), "operand"),
            include("expression"),
        ],
        "defined": [include("blanks"), (r"\(", Punctuation, ("#pop", "parameters")), default("#pop")],
        "parameters": [
            include("blanks"),
            (r"[\n;]", Whitespace),
            (r"\)", Punctuation, "#pop"),
            (r",", Punctuation),
            (r"\*", Operator),
            (r":", Punctuation, "choices"),
            (r"=", Operator, ("default", "operand")),
            (_NAME, Name.Variable),
        ],
        "choices": [include("blanks"), (r"\n", Whitespace), (r"\|", Operator), (_NAME, Name.Constant), default("#pop")],
        "default": [
            (r"[\n;]", Whitespace),
            (r",", Punctuation, "#pop"),
            (r"\)", Punctuation, "#pop:2"),
            include("expression"),
        ],
        "expression": [
            (rf'(?<=")({_GAP})(import)\b', _groups(Whitespace, Keyword.Namespace)),
            include("blanks"),
            (rf"({_NAME})({_GAP})(:)", _groups(Name.Label, Whitespace, Punctuation), "operand"),
            (
                rf"({_NAME})(\{{(?=[^{{}}\n]*\}}{_GAP}:)|\[(?=[^\[\]\n]*\]{_GAP}:))",
                _groups(Name.Label, Punctuation),
                ("index", "operand"),
            ),
            (r'"', String.Double, "string"),
            (r"\?([ \t]*\[[ \t]*[0-9]{1,9}[ \t]*\.\.[ \t]*[0-9]{1,9}[ \t]*\])?", Number),
            (r"[0-9]+(x[0-9]+)+\b", Number),
            (r"[0-9][0-9_]*(\.[0-9]+)?[kMG]\b", Number),
            (r"[0-9][0-9_]*\b(?!\.[0-9])", Number.Integer),
            (r"[0-9][0-9_]*(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?\b", Number.Float),
            (rf"(x)({_GAP})(\[)", _groups(Operator.Word, Whitespace, Punctuation), ("brackets", "operand")),
            (r"(true|false|none)\b", Keyword.Constant),
            (r"(if|then|else|on|repeat|sum|mean|concat)\b", Keyword, "operand"),
            (r"(for|as)\b", Keyword),
            (r"(and|or|not|in)\b", Operator.Word, "operand"),
            (rf"(\.)({_GAP})({_NAME})", _groups(Operator, Whitespace, Name.Attribute)),
            (r"[A-Z][A-Za-z0-9_]*", Name.Class),
            (rf"{_NAME}(?={_GAP}\()", Name.Function),
            (_NAME, Name),
            (r"->|[=!<>]=|//|[-+*/%<>=|]", Operator, "operand"),
            (r"[,:]", Punctuation, "operand"),
            (r"\{", Punctuation, "root"),
            (r"[(\[]", Punctuation, ("brackets", "operand")),
        ],
        "index": [
            (rf"([}}\]])({_GAP})(:)", _groups(Punctuation, Whitespace, Punctuation), ("#pop", "operand")),
            include("expression"),
        ],
        "string": [
            (r'\\["\\n]', String.Escape),
            (rf"\{{{_NAME}\}}", String.Interpol),
            (r'[^"\\{\n]+|\{', String.Double),
            (r'"', String.Double, "#pop"),
        ],
    }
