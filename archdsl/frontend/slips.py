"""Common slips of notation, from Python, YAML, JSON and haste: what a line looks like, and its cure."""

from __future__ import annotations

import re
from functools import cache

from archdsl.base.source import Source
from archdsl.core.recipe import SETTINGS

_PYTHON = "this is Python; see docs/language.md for the notation of .arch"
YAML = "this looks like YAML; a network is written as a call, as in `Name(28, 10)`"
_CHOICE = "a choice is `if condition then a else b`"
_LABEL = "a module is named by a label, as in `fc: Linear(10)`"
_EQUALITY = "equality is written `==`"
_BRACES = "what is repeated or chosen stands in braces, as in `repeat 4 { ReLU }`"
_ARGUMENTS = "arguments stand in round brackets, as in `Name(28, 10)`"

_SLIPS: tuple[tuple[str, str], ...] = (
    # (a line with `@` where the error is; the cure), the particular before the general
    # heads of definitions
    (r"^\s*(?:network|model|[A-Z]\w*)\s+@\w+\s*[({=]", "definitions begin with `net`, `block` or `flow`"),
    (r"^\s*(?:net|block|flow)\s*@=", "give it a name: `net mine = ...`"),
    (r"^\s*(?:net|block|flow|let|share)\s+@\d", "a name begins with a letter"),
    (r"^\s*(?:net|block|flow)\s+\w+@-", "a name has letters, digits and `_`"),
    (r"^\s*net\s+\w+\(.*\)\s*@\s*=", "a family has a body, as in `net Mine(width) { B(3, 3, width=width) }`"),
    (r"^\s*(?:block|flow)\s+\w+\s*@\{", "the brackets stay where there are no parameters: `block Mine() { ... }`"),
    (r"^\s*(?:net|block|flow)\b[^{=]*@$", "the `{` of a body stands in the same line"),
    (r"^\s*(?:net|block|flow)\s+\w+(?:\(.*\))?[^({]*@:", "a body stands in braces: `net mine { ... }`"),
    (r"^\s*(?:block|flow|net)\s+\w+\([^)]*:\s*\w+\s*@", "a parameter has no type; choices are `order: pre | post`"),
    (r"^\s*from\b.*@as\b", "what is imported keeps its name"),
    (r"^\s*net\s+\w+\s+@\w", "what it reads follows `on`, as in `net mine on cifar10`"),
    (
        r"^\s*@(?:let|share|require|expect|train|place|aux)\b",
        "this belongs into the braces of a network or block",
    ),
    # Python
    (r"@.*\blambda\b|\blambda\b.*@", "modules that belong together are a `block` or a `flow`"),
    (r"(?:^|[{;])\s*return\s+@", "there is no `return`: the flow of a body is its result"),
    (r"\bself\.\w+\s*@", "a block is not an object: its parts are named by labels, as in `conv1: Conv(16, 3)`"),
    (r"^\s*(?:(?:def|class|import|while)\b.*@|from\s+@?\w)", _PYTHON),
    (r"\b(?:elif|else\s+if\b.*@:)", "a choice is `if a then b else if c then d else e`"),
    (r"(?:^|[{;])\s*(?:for|if|else|repeat)\b.*@:|\b(?:for|repeat)\b.*:.*@", _BRACES),
    (r"\brepeat\s+\w+\s+@\w", _BRACES),
    (r"\b[fFrRb]@\"", "a text has no prefix; a message shows values by name, as in `{depth}`"),
    (r"@is\b", _EQUALITY),
    (r"\blet\s+\w+\s*@[:\w]", "name a value with `let name = ...`"),
    (r"@[-+*/]=|[-+*/]@=", "a value does not change; give the new one a name with `let`"),
    (r"@=>", "an arrow is `->`, and a comparison `>=`"),
    (r"\[[^\]]*@:", "one item of a list is `items[0]`; there are no slices"),
    (r"@#|@(//|/\*)", "comments start with `#`"),
    (r"\*@\*", "there is no power operator; write the product"),
    (r"@\^", "there is no power operator; write the product"),
    (r"@(&&|\|\|)", "write `and` and `or`"),
    (r"@!(?!=)", "write `not`"),
    # clauses and settings
    (r"\b(?:expect\s+\w+|SETTING)\s*@\s*[=:]", "leave out the sign: `epochs 12`, `expect params 36.5M`"),
    (r"\bexpect\s+@\d", "the figure comes last, as in `expect params 36.5M`"),
    (r"\bexpect\s.*@[.,]", "a figure is written as 36.5M or 36_479_194"),
    (r"\b(?:train|place)\s+@\w", "settings stand in braces, as in `train { epochs 12 }` and `place { fused }`"),
    (r"\bplace\s*\{\s*(?:split|mesh)\s*@[:=]", "in a spec the number follows a space, as in `split 2`"),
    (r"\btrain\s*\{.*@,", "settings stand in lines of their own, or are parted by `;`"),
    (r"\baux\s+\S+\s+@\w", "a colon follows the weight, as in `aux 0.3: ...`"),
    (r'@"[^"]*$', 'a text ends in its line, with another `"`'),
    (r"\brequire\b.*@(?:\"|\}|$)", 'a message follows: `require depth > 3, "depth {depth} is too small"`'),
    # numbers
    (r"\d\.@?\.", "a list of numbers is written out, as in `[1, 2, 3]`"),
    (r"@\.\d", "a number begins with a digit, as in 0.5"),
    (r"@\d[\d_.]*[kMG]\b", "`k`, `M` and `G` stand in `expect` alone; write the number out"),
    (r"@\d[\d.]*[A-Za-z]", "a product is written with a sign, as in `6 * n + 4`"),
    (r"\w-\w+\s*@:", "a label has letters, digits and `_`, as in `conv1:`"),
    (r"\b[A-Za-z_]\w*-\d+(-\d+)*@", "write the numbers as arguments, as in `Name(28, 10)`"),
    (r"\b(?!then|else|and|or|not)[A-Za-z_]\w*\s+@\d", _ARGUMENTS),
    (r"\b[A-Z]\w*[\[<][\d\s,]*@,", _ARGUMENTS),
    (r"\d\s+@[A-Z]", "what is repeated is written `repeat 4 { ... }`"),
    # choices
    (r"->\s*@if\b", "after an arrow a choice stands in brackets: `-> (if a then b else c)`"),
    (r"@if\b(?!.*\bthen\b)", _CHOICE),
    (r"@\?", _CHOICE),
    (r"@else\b", _CHOICE),
    (r"\b(?:if|require|and|or)\b[^=]*@=(?!=)", _EQUALITY),
    (r"\bif\b(?!.*\bthen\b).*@", _CHOICE),
    # labels, lists, calls
    (r'"\w*"\s*@?:|^\s*@\{', "this looks like JSON; a network is written as a call, as in `Name(28, 10)`"),
    (r"(?:^|[{;>])\s*\d+\s*@:", "a label is a name; the modules of a list `[...]` are numbered"),
    (r"->\s*\w+\s*@=", _LABEL),
    (r"^\w+\s*@=(?!=)", "a network is named by `net`, as in `net mine = Name(28, 10)`"),
    (r"\w\s*@=\s*[A-Z]\w*\(", f"{_LABEL}; a value by `let`"),
    (r"[)\w]\[\s*\w+\s*@=", "parallel functions are written `x[k=4]`"),
    (r"@\s*=(?!=)", "name a value with `let name = ...`"),
    (r"\)\s*@x\s*\d", "parallel functions are written `x[k=4]`, and repeats `repeat 4 { ... }`"),
    (r"\b(?:sum|mean|concat)\s*\(.*@,", "branches stand in braces, as in `concat { a, b }`"),
    (r"(?:^|[\s(,=])\(\s*[\w.]+\s*@,", "a pair is a list, as in `[3, 3]`"),
    (r"\([^()]*@;", "arguments are parted by commas"),
    (r"\bon\s[^{(]*@,", "to try several, write `on data for data in [cifar10, cifar100]`"),
    (r"^\s*[\w-]+@:.*$", YAML),
    (r"\w\s*@:", "an argument is given with `=`, as in `dropout=0.3`"),
    (r"@,", "`->` joins what follows one another; a list stands in `[ ]`"),
    (r"->.*@\s*[+*]", "put the flow in parentheses: `(x -> f) + x`"),
    # signs
    (r"[\"'“”‘’„«»]\s*\w*.*@?[“”‘’„«»]|@[“”‘’„«»]", 'texts stand in plain double quotes: "text"'),
    (r"@'", 'texts stand in double quotes: "text"'),
    (r"@[→⟶]", "write the arrow as `->`"),
    (r"@[×✕]", "write the sign as `x`, as in `x[k=4]`"),
    (r"@[–—−]", "write the sign as `-`"),
    (r"@[^\x00-\x7f]", "names and signs are ASCII; texts and comments may have any character"),
)


def cure(source: Source, offset: int) -> str | None:
    """What would mend an error at an offset, if its line looks like a common slip."""
    start = source.text.rfind("\n", 0, offset) + 1
    end = source.text.find("\n", offset)
    line = source.text[start : end if end >= 0 else len(source.text)]
    marked = f"{line[: offset - start]}@{line[offset - start :]}"
    return next((cure for pattern, cure in _patterns() if pattern.search(marked[:400])), None)


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    settings = "|".join(SETTINGS)
    return [(re.compile(pattern.replace("SETTING", settings)), cure) for pattern, cure in _SLIPS]
