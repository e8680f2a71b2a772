"""Random inputs for the compiler: each must end in networks or in an ArchError, soon, and in little memory.

Two fuzzers make them. One derives texts from the grammar, as Lark has read it, with the words and phrases that specs
use in the same places; the other damages the bytes of specs. Every input goes the whole way: read, parse, format,
elaborate, verify, check, count, write both files and compile them as Python; a sample is built in PyTorch. What ends in
any other way is a finding. It is made smaller, and saved.

    python tests/fuzzing.py --inputs 1000000 --seed 0 --processes 2 --save DIR [--kind grammar|bytes]

An input depends on the seed and its number alone. The exit status is 1 if something was found.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any, ClassVar, NamedTuple

from lark import Lark, Token
from lark.exceptions import UnexpectedInput
from lark.grammar import Rule, Symbol

import archdsl
from archdsl import driver
from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic
from archdsl.base.render import as_json, render
from archdsl.base.source import Source
from archdsl.core.data import DATA_SETS
from archdsl.core.measure import measure, modules
from archdsl.core.primitives import PRIMITIVES
from archdsl.core.recipe import SETTINGS, untrainable
from archdsl.frontend import parser
from archdsl.frontend.dump import dump
from archdsl.frontend.formatter import formatted
from archdsl.frontend.grammar import Newlines
from archdsl.frontend.resolve import library_index
from archdsl.frontend.syntax import File
from archdsl.reports.counts import memory_row

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(archdsl.__file__).parent

SECONDS = 2.0
"""Of processor time that an input may take."""
HANG = 10.0
"""Seconds after which it is stopped."""
SILENCE = 60.0
"""Seconds after which a process that does not hear the signal is killed."""
MINIMISING = 60.0
"""Seconds in which a finding is made smaller."""
MEMORY = 300 * 2**20
"""Bytes that a process may have needed, as long as it has not loaded PyTorch."""
ADDRESSES = 4 * 2**30
"""Bytes of addresses that a process may have: what asks for more gets a MemoryError, and the machine lives on."""

WRITTEN = 2
"""Networks of one input for which files are written."""
SAMPLE = 25
"""One of so many valid inputs is built in PyTorch,"""
MODULES = 2000
"""if it has no more modules than these."""

KINDS = ("grammar", "bytes")
TURNS = ("grammar", "bytes", "bytes")
"""Which fuzzer makes the next input. Damaged bytes often end in the parser, and take half as long."""

FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""Where inputs are written: in memory, if there is such a place."""


# ---- what the fuzzers start from


def spec_files() -> list[Path]:
    """Every spec of the checkout that is no example of a page."""
    folders = (ROOT / "specs", ROOT / "tests" / "golden", ROOT / "tests" / "errors")
    return sorted(path for folder in folders for path in folder.rglob("*.arch"))


def page_specs() -> list[bytes]:
    """The examples of the reference, right and wrong."""
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    return [text.encode() for text in re.findall(r"^```arch[^\n]*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


def chance(path: Path) -> float:
    """How often a spec is taken: less often if its networks are large, or if it is there to meet a limit."""
    answer = path.with_suffix(".txt")
    if answer.exists():
        return 0.02 if "error[E10" in answer.read_text(encoding="utf-8") else 1.0
    return 0.1 if ROOT / "specs" in path.parents else 1.0


def items_of(data: bytes) -> list[bytes]:
    """The parts of a spec, each from one definition to the next."""
    return re.split(rb"^(?=##|net |block |flow |from )", data, flags=re.MULTILINE)


# ---- texts of the grammar


class Derivation(NamedTuple):
    """How a piece of a text follows from the grammar."""

    rule: Rule
    children: tuple[Derivation | Token, ...]
    size: int
    """Tokens."""


class Word(NamedTuple):
    """A token of a text that is being written, and whether it is a name that is given or read."""

    text: str
    binds: bool = False
    reads: bool = False


Place = tuple[str, int]
"""A rule, and which of its children."""

_BINDERS = {"import_", "block", "flow", "net", "named_net", "let", "share", "swept", "param", "rest_param"}
_BINDERS |= {"repeat", "for_", "join_count", "join_for"}
"""The rules in which a name is given."""

_NUMBERS = ["0", "1", "2", "3", "4", "7", "8", "16", "0.5", "1.0", "1e-4", "007", "1_0", "1_", "0.30000000000000004"]
_NUMBERS += ["63", "64", "65535", "65536", "1000000", "2147483647", "2147483648", "281474976710656", "1e9", "1e999"]
_NUMBERS += ["9223372036854775807", "9223372036854775808", "1e-999", "9" * 60, "9" * 61, "0." + "3" * 59, "1e60"]

_EXTRA = {
    "NAME": [*PRIMITIVES, *library_index(), *DATA_SETS, *SETTINGS, "classes", "x", "_", "__init__", "self", "torch"],
    "NUMBER": _NUMBERS,
    "FIGURE": ["1k", "36.5M", "0.0k", "1_000.5G", "99999999999999999999G", "0.69M", "1." + "0" * 30 + "M"],
    "SHAPE": ["3x8x8", "1x1x1", "0x0x0", "3x0x3", "8", "64x64", "1x2x3x4", "99999x99999x99999", "3x224x224", "4x007x7"],
    "HOLE": ["?", "?[1..4]", "? [ 9 .. 1 ]", "?[0..999999999]"],
    "STRING": ['""', '"{width}"', '"{"', '"}"', '"{{n}}"', r'"\\"', r'"\""', '"std/wrn.arch"', '"."', '"spec.arch"'],
}
"""Words of terminals beside those that specs use: everything that has a meaning, and what is hard to read."""


class _Recorder(dict[Any, Any]):
    """In the place of what Lark calls for each rule: keeps how the text was derived."""

    def __bool__(self) -> bool:
        return True

    def __missing__(self, rule: Rule) -> Callable[[list[Any]], Derivation]:
        def record(children: list[Any]) -> Derivation:
            size = sum(c.size if isinstance(c, Derivation) else 1 for c in children)
            return Derivation(rule, tuple(children), size)

        return record


class Grammar:
    """The rules of the language, with what the specs of the checkout make of them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._newlines = Newlines()
        self._lark = Lark(
            parser.grammar_text(), parser="lalr", lexer="basic", start="file", postlex=self._newlines, cache=False
        )
        self.rules: dict[str, list[Rule]] = {}
        for rule in self._lark.rules:
            self.rules.setdefault(rule.origin.name, []).append(rule)
        self.shortest = self._shortest()
        self.words: dict[str, list[str]] = {}
        """Terminal -> what it stands for in specs."""
        self.words_at: dict[tuple[Place, str], list[str]] = {}
        self.found: dict[str, list[Derivation]] = {}
        """Nonterminal -> what it stands for in specs."""
        self.found_at: dict[tuple[Place, str], list[Derivation]] = {}
        for terminal in self._lark.terminals:
            if terminal.pattern.type == "str":
                self.words[terminal.name] = [terminal.pattern.value]
        limits.deep()
        for text in texts:
            self._learn(text)
        self.missing = [t.name for t in self._lark.terminals if t.name not in self.words and t.name != "_NL"]
        self.missing = [name for name in self.missing if name not in self._lark.ignore_tokens and name not in _EXTRA]
        """Terminals that nobody knows a word of."""

    def derivation(self, text: str) -> Derivation:
        """How a text follows from the grammar. Raises an error of Lark where it does not."""
        self._newlines.text = text
        interactive = self._lark.parse_interactive(text)
        interactive.parser_state.parse_conf.callbacks = _Recorder()
        last = None
        for last in interactive.iter_parse():  # noqa: B007 - the last token says where the text ends
            pass
        found = interactive.feed_eof(last)  # type: ignore[no-untyped-call]
        assert isinstance(found, Derivation)
        return found

    def _learn(self, text: str) -> None:
        with contextlib.suppress(UnexpectedInput):  # some are there to be wrong
            self._keep(self.derivation(text), ("", 0))

    def _keep(self, found: Derivation, place: Place) -> None:
        name = found.rule.origin.name
        self.found.setdefault(name, []).append(found)
        self.found_at.setdefault((place, name), []).append(found)
        for i, child in enumerate(found.children):
            inner = place_in(found.rule, i, place)
            if isinstance(child, Derivation):
                self._keep(child, inner)
            else:
                self.words.setdefault(child.type, []).append(str(child))
                self.words_at.setdefault((inner, child.type), []).append(str(child))

    def _shortest(self) -> dict[str, Rule]:
        """For each nonterminal the rule with which its text ends soonest."""
        height: dict[str, int] = {}
        chosen: dict[str, Rule] = {}
        changed = True
        while changed:
            changed = False
            for name, rules in self.rules.items():
                for rule in rules:
                    if all(s.is_term or s.name in height for s in rule.expansion):
                        tall = 1 + max((height.get(s.name, 0) for s in rule.expansion), default=0)
                        if tall < height.get(name, sys.maxsize):
                            height[name], chosen[name], changed = tall, rule, True
        assert set(chosen) == set(self.rules)
        return chosen


def place_in(rule: Rule, index: int, outer: Place) -> Place:
    """Where a child of a rule stands; a rule of one child adds nothing to the place of its own."""
    return outer if len(rule.expansion) == 1 else (rule.alias or str(rule.origin.name), index)


class GrammarFuzzer:
    """Texts of the grammar: derived from its rules, and from pieces of specs that stand in such places."""

    DEPTH = 14
    TOKENS = 120

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        files = sorted((f for f in grammar.found["file"] if 0 < f.size <= 160), key=lambda f: f.size)
        self.files = files
        self.weights = [(30 + f.size) ** -1.5 for f in files]
        known = {*PRIMITIVES, *library_index(), *DATA_SETS, "classes"}
        self.known = known | {c for s in SETTINGS.values() for c in s.choices}
        self.callable = [name for name, p in PRIMITIVES.items() if name[0].isupper() and not p.parameters]

    def make(self, random: Random) -> bytes:
        self.random = random
        self.out: list[Word] = []
        self.novelty = random.choice([0.0, 0.02, 0.1])
        self.keep = random.choice([0.1, 0.4, 0.7])
        if random.random() < 0.6:
            (file,) = random.choices(self.files, self.weights)
            self._vary(file, ("", 0), random.choice([0.5, 1.0, 2.0, 4.0]) / (2 * file.size + 1), 0)
        else:
            self._derive("file", ("", 0), 0)
        return self._text().encode()

    def _derive(self, name: str, place: Place, depth: int) -> None:
        """A text of a nonterminal."""
        random, grammar = self.random, self.grammar
        left = self.TOKENS - len(self.out)
        if depth > self.DEPTH or left <= 0:
            return self._expand(grammar.shortest[name], place, depth)
        if random.random() < self.novelty:
            return self._expand(random.choice(grammar.rules[name]), place, depth)
        choices = grammar.found_at.get((place, name)) if random.random() < 0.9 else None
        choices = choices or grammar.found.get(name)
        if not choices:
            return self._expand(random.choice(grammar.rules[name]), place, depth)
        found = random.choice(choices)
        if name != "file" and found.size <= min(left, 40) and random.random() < self.keep:
            return self._vary(found, place, 0.01, depth)
        return self._expand(found.rule, place, depth)

    def _expand(self, rule: Rule, place: Place, depth: int) -> None:
        for i, symbol in enumerate(rule.expansion):
            self._symbol(rule, symbol, place_in(rule, i, place), depth + (len(rule.expansion) > 1))

    def _vary(self, found: Derivation, place: Place, rate: float, depth: int) -> None:
        """A piece of a spec, of whose parts some are derived anew."""
        depth += len(found.children) > 1
        for i, child in enumerate(found.children):
            inner = place_in(found.rule, i, place)
            if self.random.random() < rate:
                self._symbol(found.rule, found.rule.expansion[i], inner, depth)
            elif isinstance(child, Derivation):
                self._vary(child, inner, rate, depth)
            else:
                self._word(found.rule, child.type, str(child))

    def _symbol(self, rule: Rule, symbol: Symbol, place: Place, depth: int) -> None:
        if not symbol.is_term:
            return self._derive(str(symbol.name), place, depth)
        name, chance = str(symbol.name), self.random.random()
        choices = self.grammar.words_at.get((place, name)) if chance < 0.8 else None
        if choices is None and (chance < 0.95 or name not in _EXTRA):
            choices = self.grammar.words.get(name)
        self._word(rule, name, self.random.choice(choices or _EXTRA.get(name) or ["\n"]))

    def _word(self, rule: Rule, kind: str, text: str) -> None:
        label = rule.alias or str(rule.origin.name)
        binds = label in _BINDERS and kind in ("NAME", "LABEL")
        self.out.append(Word(text, binds, kind == "NAME" and label == "name"))

    def _text(self) -> str:
        """The words in order. Most names that nothing stands for give way to others, at first to those not yet read."""
        random = self.random
        given = [w.text for w in self.out if w.binds]
        read = {w.text for w in self.out if w.reads}
        unread = [name for name in given if name not in read]
        random.shuffle(unread)
        parts: list[str] = []
        for word in self.out:
            text = word.text
            if word.reads and text not in self.known and text not in given and random.random() < 0.85:
                text = unread.pop() if unread and random.random() < 0.7 else random.choice(given or self.callable)
            elif text.isspace():
                text = random.choice(
                    ["\n", "\n", "\n", "\n", "\n\n", ";", " # so\n", "\n  # why\n", "\n## It.\n", "\r\n"]
                )
            parts.append(text)
        return " ".join(parts)


# ---- damaged bytes


class BytesFuzzer:
    """Specs with a few mistakes, of a typist or of a wicked person."""

    LONGEST = 4000
    PIECE = 500

    def __init__(self, specs: Sequence[tuple[bytes, float]], tokens: Sequence[str]) -> None:
        self.specs = [data for data, _ in specs]
        self.weights = [weight for _, weight in specs]
        self.tokens = [token.encode() for token in tokens]

    def make(self, random: Random) -> bytes:
        self.random = random
        data = self._spec()
        for _ in range(random.choice([1, 1, 1, 1, 1, 2, 2, 3, 6])):
            data = random.choice(self.DAMAGES)(self, data)[: self.LONGEST]
        if random.random() < 0.0003:
            data = self._enlarged(data)
        return data

    def _spec(self) -> bytes:
        """A spec, or, of a long one, some items that stand together."""
        (data,) = self.random.choices(self.specs, self.weights)
        if len(data) <= self.PIECE:
            return data
        items = items_of(data)
        first = self.random.randrange(len(items))
        return b"".join(items[first : first + self.random.randint(1, 4)])[: 2 * self.PIECE]

    def _at(self, data: bytes) -> int:
        return self.random.randint(0, len(data))

    def _range(self, data: bytes, most: int = 40) -> tuple[int, int]:
        start = self._at(data)
        return start, min(len(data), start + self.random.randint(1, most))

    def _insert(self, data: bytes, piece: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + piece + data[at:]

    def _replace(self, data: bytes, pattern: bytes, piece: Callable[[bytes], bytes]) -> bytes:
        """One match of a pattern replaced."""
        matches = list(re.finditer(pattern, data))
        if not matches:
            return data
        match = self.random.choice(matches)
        return data[: match.start()] + piece(match[0]) + data[match.end() :]

    def flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self.random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << self.random.randrange(8))]) + data[at + 1 :]

    def delete(self, data: bytes) -> bytes:
        start, end = self._range(data, self.random.choice([1, 4, 40]))
        return data[:start] + data[end:]

    def duplicate(self, data: bytes) -> bytes:
        start, end = self._range(data)
        return data[:end] + data[start:end] * self.random.choice([1, 1, 1, 2, 30]) + data[end:]

    def move(self, data: bytes) -> bytes:
        start, end = self._range(data)
        return self._insert(data[:start] + data[end:], data[start:end])

    def splice(self, data: bytes) -> bytes:
        other = self._spec()
        if self.random.random() < 0.5:
            return data[: self._at(data)] + other[self._at(other) :]
        lines, others = data.splitlines(True), other.splitlines(True)
        return b"".join(lines[: self.random.randint(0, len(lines))] + others[self.random.randint(0, len(others)) :])

    def graft(self, data: bytes) -> bytes:
        """A flow of another spec in the place of a call."""
        calls = re.findall(rb"[A-Za-z]+\([^()\n]*\)(?: -> [A-Za-z]+\([^()\n]*\))*", self._spec()) or [b"ReLU"]
        return self._replace(data, rb"\b[A-Z]\w*(?:\([^()\n]*\))?", lambda _: self.random.choice(calls))

    def token(self, data: bytes) -> bytes:
        return self._insert(data, self.random.choice([b"", b" "]) + self.random.choice(self.tokens) + b" ")

    def word(self, data: bytes) -> bytes:
        return self._replace(data, rb"\b[A-Za-z_]\w*\b", lambda _: self.random.choice(self.tokens))

    def name(self, data: bytes) -> bytes:
        """A name in the place of another of the same text."""
        names = re.findall(rb"\b[A-Za-z_]\w*\b", data) or [b"x"]
        return self._replace(data, rb"\b[A-Za-z_]\w*\b", lambda _: self.random.choice(names))

    def number(self, data: bytes) -> bytes:
        digits = self.random.choice([b"1", b"2", b"3", b"4", b"5", b"6", b"8", b"9", b"12", b"16", b"20", b"100"])
        return self._replace(data, rb"\b\d[\d_]*\b", lambda _: digits)

    def strange_number(self, data: bytes) -> bytes:
        pieces = [n.encode() for n in _NUMBERS] + [b"9" * self.random.choice([19, 60, 61, 400, 3000])]
        return self._replace(data, rb"\d[\d_.]*", lambda _: self.random.choice(pieces))

    def operator(self, data: bytes) -> bytes:
        signs = [b"->", b"+", b"*", b"/", b"//", b"%", b"-", b"==", b"<", b"and", b"or", b"in", b",", b";", b"="]
        return self._replace(data, rb"->|[-+*/%=,;]", lambda _: self.random.choice(signs))

    def space(self, data: bytes) -> bytes:
        blanks = [b"\n", b"\t", b"\r\n", b"\r", b" ", b"\x0c", b"\x0b", b"\n\n", b"  # c\n", b"\n## Doc.\n", b"", b"#"]
        return self._replace(data, rb"\s+", lambda _: self.random.choice(blanks))

    def control(self, data: bytes) -> bytes:
        return self._insert(data, bytes([self.random.choice([*range(32), 127])]) * self.random.choice([1, 1, 20]))

    def unicode(self, data: bytes) -> bytes:
        texts = [
            "\ufeff",
            "\u2028",
            "\u0085",
            "\u00a0",
            "\u200b",
            "\u202e",
            "→",
            "×",
            "é",
            "٣",
            "²",
            "\U0001f600",
            "Ⅷ",
            "ﬁ",
        ]
        broken = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80"]
        return self._insert(data, self.random.choice([*(t.encode() for t in texts), *broken]))

    def nest(self, data: bytes) -> bytes:
        """Something inside many brackets, or after many operators."""
        start, end = self._range(data, 20)
        deep = self.random.choice([1, 2, 5, 20, 50, 99, 101, 300, 900])
        pairs = [(b"(", b")"), (b"[", b"]"), (b"{", b"}"), (b"-", b""), (b"not ", b""), (b"f(", b")"), (b"sum{", b"}")]
        pairs += [
            (b"if a then ", b" else b"),
            (b"a: {", b"}"),
            (b"", b"[0]"),
            (b"", b".x"),
            (b"1+", b""),
            (b"a->", b""),
        ]
        left, right = self.random.choice(pairs)
        return data[:start] + left * deep + data[start:end] + right * deep + data[end:]

    DAMAGES: ClassVar[Sequence[Callable[[BytesFuzzer, bytes], bytes]]] = (
        *(flip, delete, duplicate, move, splice, graft, graft, token, word, name, name),
        *(number, number, number, number, strange_number, operator, space, control, unicode, nest),
    )

    def _enlarged(self, data: bytes) -> bytes:
        """About as long as a spec may be."""
        return (data or b" ") * (self.random.randint(60_000, 68_000) // max(1, len(data)))


# ---- all inputs of a seed


class Inputs:
    """The inputs of a seed, by number."""

    def __init__(self, seed: int, kinds: Sequence[str]) -> None:
        self.seed = seed
        self.kinds = kinds
        weighted = [(path.read_bytes(), chance(path)) for path in spec_files()]
        weighted += [(data, 1.0) for data in page_specs()]
        # Of networks that take long, which are many, the grammar knows a few.
        shorter = [b"".join(items_of(d)[:3]) if w < 1 else d for d, w in weighted if w >= 0.1]
        self.grammar = Grammar([data.decode(errors="replace") for data in shorter])
        words = sorted({w for found in (*self.grammar.words.values(), *_EXTRA.values()) for w in found})
        weighted = [(data, weight * (100 + len(data)) ** -1.3) for data, weight in weighted]
        self.makers: dict[str, GrammarFuzzer | BytesFuzzer] = {
            "grammar": GrammarFuzzer(self.grammar),
            "bytes": BytesFuzzer(weighted, words),
        }

    def kind(self, index: int) -> str:
        return self.kinds[index % len(self.kinds)]

    def make(self, index: int) -> bytes:
        kind = self.kind(index)
        return self.makers[kind].make(Random(f"{self.seed} {kind} {index}"))


# ---- the way of an input


class Broken(Exception):
    """A promise that archdsl does not keep: the first argument says which, the second the details."""


class Stopped(BaseException):
    """An input took too long. No `except Exception` on its way stops it."""


@dataclass(frozen=True)
class Problem:
    """What is wrong, so that equal problems are equal, and all that is known of it."""

    what: str
    details: str = field(compare=False)


@dataclass
class Verdict:
    """How an input ended."""

    ending: str = "networks"
    parsed: bool = False
    models: list[tuple[str, int]] = field(default_factory=list)
    """Texts of model.py, and the parameters that they should have."""
    problem: Problem | None = None
    seconds: float = 0


class _Trees:
    """In the place of what is kept on disk: the trees of the library, and those made for the input at hand."""

    library: ClassVar[dict[tuple[str, ...], File]] = {}
    own: ClassVar[dict[tuple[str, ...], File]] = {}

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def read(self) -> object:
        return self.library.get(self.texts) or self.own.get(self.texts)

    def write(self, value: object) -> None:
        assert isinstance(value, File)
        (self.library if value.source.library else self.own)[self.texts] = value


class Judge:
    """Takes inputs the whole way, in a folder of its own. The process must not be used for anything else."""

    SPEC = "spec.arch"

    def __init__(self, folder: Path) -> None:
        vars(parser)["Kept"] = _Trees
        os.chdir(folder)
        # What specs import.
        for path in (*spec_files(), *(ROOT / "tests" / "golden" / "parts").glob("*")):
            to = folder / "parts" / path.name if path.parent.name == "parts" else folder / path.name
            if not to.exists():
                to.parent.mkdir(exist_ok=True)
                shutil.copy(path, to)
        self.memory = float(MEMORY)
        signal.signal(signal.SIGALRM, _stop)

    def judge(self, data: bytes) -> Verdict:
        """How an input ends, and whether it may."""
        verdict = Verdict()
        before = time.process_time()
        with self._watched(verdict):
            try:
                Path(self.SPEC).write_bytes(data)
                _Trees.own.clear()
                problems = self._way(verdict)
            except ArchError as problem:
                problems = problem.diagnostics
            if problems:
                verdict.ending = problems[0].code
                _shown(problems)
        verdict.seconds = time.process_time() - before
        if verdict.problem is None and verdict.seconds > SECONDS:
            what = f"more than {SECONDS:g} s, and then {verdict.ending}"
            verdict.problem = Problem(what, f"{verdict.seconds:.1f} s of processor time")
        peak = peak_memory()
        if verdict.problem is None and "torch" not in sys.modules and peak > self.memory:
            self.memory = peak * 1.5
            verdict.problem = Problem(f"more than {MEMORY >> 20} MB, and then {verdict.ending}", f"{peak >> 20} MB")
        return verdict

    def build(self, text: str, params: int) -> Problem | None:
        """What is wrong with a written model in PyTorch."""
        import torch

        verdict = Verdict()
        with self._watched(verdict):
            namespace: dict[str, Any] = {"__name__": "generated"}
            exec(compile(text, "<model.py>", "exec"), namespace)
            with torch.device("meta"):
                model = namespace["build_model"]()
            found = sum(p.numel() for p in model.parameters())
            if found != params:
                raise Broken("PyTorch counts other parameters", f"{found:,}, and not {params:,}")
        return verdict.problem

    @contextlib.contextmanager
    def _watched(self, verdict: Verdict) -> Iterator[None]:
        """Whatever is raised is a problem."""
        signal.setitimer(signal.ITIMER_REAL, HANG)
        try:
            yield
        except Stopped:
            verdict.problem = Problem(f"no end in {HANG:g} s", traceback.format_exc(limit=-12))
        except Exception as problem:
            verdict.problem = _problem(problem)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _way(self, verdict: Verdict) -> Sequence[Diagnostic]:
        source, folder, name = driver.open_spec(self.SPEC)
        tree = parser.parse(source)
        verdict.parsed = True
        _formatted(tree)
        found = driver.examine(source, folder, name)
        if found.problems:
            return found.problems
        for one in found.compiled[:WRITTEN]:
            network = one.network
            memory_row(network, 8, "fp32")
            one.ir()
            one.unplaced()
            text = one.model()
            compile(text, "model.py", "exec")
            if not untrainable(network) and one is found.compiled[0]:
                compile(one.train(), "train.py", "exec")
            few = len(list(islice(modules(network.root), MODULES + 1))) <= MODULES
            if few and not network.placement:
                verdict.models.append((text, measure(network).params))
        return ()


def _stop(number: int, frame: object) -> None:
    raise Stopped


def _shown(problems: Sequence[Diagnostic]) -> None:
    for problem in problems:
        render(problem)
        as_json(problem)


_SPANS = re.compile(r"  @\d+\.\.\d+$", re.MULTILINE)


def _formatted(tree: File) -> None:
    """Formatting keeps the tree and the comments, and changes nothing the second time."""
    try:
        text = formatted(tree.source)
        if text == tree.source.text:
            return
        canonical = Source(tree.source.name, text)
        again, twice = parser.parse(canonical), formatted(canonical)
    except ArchError as problem:
        if problem.diagnostics[0].key == "too-large":
            return  # with its spaces it is longer than a file may be, and refused
        raise Broken(f"what the formatter writes is wrong: {problem.diagnostics[0].code}", str(problem)) from None
    before, after = (_SPANS.sub("", dump(t)).split("\n") for t in (tree, again))
    if before != after:
        old, new = next((a, b) for a, b in zip([*before, ""], [*after, ""], strict=False) if a != b)
        kinds = " and ".join(re.sub(r"\W.*", "", re.sub(r"^ *(?:[\w\[\]]+: )?", "", line)) for line in (old, new))
        raise Broken(f"the formatter changes the tree: {kinds}", f"{old}\n{new}\n{text}")
    # `##` behind something documents nothing; in a line of its own it would, and becomes `#`.
    kept = [sorted(re.sub(r"^#+\s*", "# ", c.text) for c in t.comments) for t in (tree, again)]
    if kept[0] != kept[1]:
        raise Broken("the formatter changes the comments", f"{kept[0]}\n{kept[1]}\n{text}")
    if twice != text:
        raise Broken("formatting again changes the text", f"{text}\n---\n{twice}")


def _problem(problem: Exception) -> Problem:
    """An exception as a problem: its kind, and the place in archdsl where it came up."""
    details = "".join(traceback.format_exception(problem, limit=-30))
    if isinstance(problem, Broken):
        return Problem(problem.args[0], problem.args[1])
    causes = [problem]
    while (cause := causes[-1].__cause__) is not None:
        assert isinstance(cause, Exception)
        causes.append(cause)
    return Problem(" from ".join(f"{type(p).__name__}{_place(p)}" for p in causes), details)


def _place(problem: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(problem.__traceback__) if PACKAGE in Path(f.filename).parents]
    return f" at {Path(frames[-1].filename).relative_to(PACKAGE.parent)}:{frames[-1].lineno}" if frames else ""


def peak_memory() -> int:
    """Bytes that this process has needed at most."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:  # noqa: PTH123 - the quickest way, for every input
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit_addresses(most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


# ---- many inputs


@dataclass
class Tally:
    """What came of many inputs."""

    endings: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    """By kind: inputs, those parsed and those compiled; and, of all, those built in PyTorch."""
    slowest: tuple[float, int] = (0.0, -1)
    peak: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        self.endings += other.endings
        self.passed += other.passed
        self.slowest = max(self.slowest, other.slowest)
        self.peak = max(self.peak, other.peak)
        self.seconds += other.seconds


@dataclass
class Finding:
    """A problem, and the inputs that have it."""

    problem: Problem
    indices: list[int]
    build: bool = False
    """Found in PyTorch."""
    smallest: bytes = b""


Message = tuple[Tally, Sequence[tuple[int, Problem, bool]]]

EVERY = 1.0
"""Seconds between the messages of a process."""


def _work(inputs: Inputs, indices: range, send: Connection, at: Any) -> None:
    """The life of a process: its inputs one by one, then the sample in PyTorch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_addresses(ADDRESSES)
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        judge = Judge(Path(folder))
        tally, found, sample = Tally(), [], []
        told = time.monotonic()
        for index in indices:
            at.value = index
            data = inputs.make(index)
            verdict = judge.judge(data)
            kind = inputs.kind(index)
            tally.endings[verdict.problem.what if verdict.problem else verdict.ending] += 1
            tally.passed[f"{kind} inputs"] += 1
            tally.passed[f"{kind} parsed"] += verdict.parsed
            tally.slowest = max(tally.slowest, (verdict.seconds, index))
            tally.seconds += verdict.seconds
            if verdict.problem:
                found.append((index, verdict.problem, False))
            elif verdict.ending == "networks":
                tally.passed[f"{kind} compiled"] += 1
                if zlib.crc32(data) % SAMPLE == 0:
                    sample += [(index, *model) for model in verdict.models]
            if found or time.monotonic() > told + EVERY:
                tally.peak = peak_memory()
                send.send((tally, found))
                tally, found, told = Tally(), [], time.monotonic()
        tally.peak = peak_memory()
        send.send((tally, found))
        _limit_addresses(resource.RLIM_INFINITY)
        for index, text, params in sample:
            at.value = index
            problem = judge.build(text, params)
            send.send((Tally(passed=Counter(built=1)), [(index, problem, True)] if problem else []))
        os.chdir("/")


class Worker:
    """A process and the inputs that are its own."""

    def __init__(self, inputs: Inputs, indices: range) -> None:
        self.inputs = inputs
        self.indices = indices
        self._start(indices)

    def _start(self, indices: range) -> None:
        context = multiprocessing.get_context("fork")
        self.at = context.Value("q", indices.start, lock=False)
        self.receive, send = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(self.inputs, indices, send, self.at), daemon=True)
        self.process.start()
        send.close()
        self.seen = (indices.start, time.monotonic())
        self.killed = False

    def watch(self) -> None:
        """Kill the process if it has been at one input for too long."""
        at = int(self.at.value)
        if at != self.seen[0]:
            self.seen = (at, time.monotonic())
        elif time.monotonic() > self.seen[1] + SILENCE and not self.killed:
            self.killed = True
            self.process.kill()

    def ended(self) -> tuple[int, Problem] | None:
        """If it did not end well: the input that it died of. It goes on behind that."""
        self.process.join()
        code = self.process.exitcode or 0
        if code == 0:
            return None
        index, problem = int(self.at.value), Problem(_death(-code, self.killed), "")
        rest = range(index + self.indices.step, self.indices.stop, self.indices.step)
        self._start(rest)
        return index, problem


def _death(number: int, killed: bool) -> str:
    """How a process died that raised nothing."""
    if killed:
        return f"no end in {SILENCE:g} s"
    return f"the process died: {signal.Signals(number).name if number > 0 else f'status {-number}'}"


class Campaign:
    """A run of the fuzzers."""

    def __init__(self, seed: int, kinds: Sequence[str], count: int, processes: int, save: Path | None) -> None:
        self.inputs = Inputs(seed, kinds)
        self.count = count
        self.processes = min(processes, count)
        self.save = save
        self.tally = Tally()
        self.findings: dict[Problem, Finding] = {}
        self.start = time.monotonic()

    def run(self) -> bool:
        """Whether nothing was found."""
        workers = [Worker(self.inputs, range(i, self.count, self.processes)) for i in range(self.processes)]
        told = time.monotonic()
        while workers:
            for receive in wait([w.receive for w in workers], timeout=EVERY):
                (worker,) = (w for w in workers if w.receive is receive)
                try:
                    self._take(*worker.receive.recv())
                except EOFError:
                    death = worker.ended()
                    if death is None:
                        workers.remove(worker)
                    else:
                        self._take(Tally(), [(*death, False)])
            for worker in workers:
                worker.watch()
            if time.monotonic() > told + 5:
                told = time.monotonic()
                self._progress()
        for number, finding in enumerate(self.findings.values(), 1):
            self._settle(number, finding)
        print(self.report(), flush=True)
        return not self.findings

    def _take(self, tally: Tally, found: Sequence[tuple[int, Problem, bool]]) -> None:
        self.tally.add(tally)
        for index, problem, build in found:
            finding = self.findings.setdefault(problem, Finding(problem, [], build))
            finding.indices.append(index)
            if len(finding.indices) == 1:
                print(f"found in input {index}: {problem.what}", flush=True)

    def _progress(self) -> None:
        done = self.tally.endings.total()
        rate = done / (time.monotonic() - self.start)
        compiled = sum(self.tally.passed[f"{kind} compiled"] for kind in KINDS)
        print(
            f"{done:,} of {self.count:,} inputs, {rate:,.0f} a second, {compiled:,} compiled, "
            f"{self.tally.peak >> 20} MB, {len(self.findings)} findings",
            flush=True,
        )

    def _settle(self, number: int, finding: Finding) -> None:
        """Make the first input of a finding smaller, and save and print it."""
        data = self.inputs.make(finding.indices[0])
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            here = Path(folder)
            finding.smallest = minimised(data, lambda d: apart(d, here, finding.build) == finding.problem.what)
        text = (
            f"{finding.problem.what}\ninputs {', '.join(map(str, finding.indices[:20]))} "
            f"({len(finding.indices):,} in all)\n{finding.smallest!r}\n\n{finding.problem.details}"
        )
        print(f"---- finding {number}: {text}", flush=True)
        if self.save:
            slug = re.sub(r"\W+", "-", finding.problem.what)[:60].strip("-")
            saved = self.save / f"{number:02}-{slug}"
            saved.mkdir(parents=True, exist_ok=True)
            (saved / "input.arch").write_bytes(data)
            (saved / "smallest.arch").write_bytes(finding.smallest)
            (saved / "report.txt").write_text(text, encoding="utf-8", errors="backslashreplace")

    def report(self) -> str:
        """What came of it."""
        took, tally = time.monotonic() - self.start, self.tally
        done = max(tally.endings.total(), 1)
        lines = [f"{done:,} inputs in {took:,.0f} s, {done / took:,.0f} a second"]
        for kind in dict.fromkeys(self.inputs.kinds):
            made, parsed, compiled = (tally.passed[f"{kind} {what}"] for what in ("inputs", "parsed", "compiled"))
            share = max(made, 1)
            lines.append(
                f"  {kind:<8} {made:>9,} inputs, {parsed:,} parsed ({parsed / share:.1%}), "
                f"{compiled:,} compiled ({compiled / share:.1%})"
            )
        lines += [f"  {ending:<8} {count:>9,}  {count / done:.2%}" for ending, count in tally.endings.most_common()]
        seconds, index = tally.slowest
        lines += [
            f"  {tally.passed['built']:,} built in PyTorch",
            f"  slowest input {index}: {seconds:.2f} s; on average {1000 * tally.seconds / done:.2f} ms",
            f"  peak memory {tally.peak >> 20} MB",
            f"  {len(self.findings)} findings in {sum(len(f.indices) for f in self.findings.values()):,} inputs",
        ]
        return "\n".join(lines)


# ---- what was found


def apart(data: bytes, folder: Path, build: bool) -> str:
    """What is wrong with an input in a process of its own; nothing is an empty text."""
    if build:
        import torch  # noqa: F401 - once, and not in each process
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            judge = Judge(folder)
            verdict = judge.judge(data)
            problems = [verdict.problem] if verdict.problem else []
            if build and not problems:
                problems = [p for model in verdict.models if (p := judge.build(*model))]
            os.write(write, problems[0].what.encode() if problems else b"")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        silent = not select.select([file], [], [], SILENCE)[0]
        if silent:
            os.kill(child, signal.SIGKILL)
        what = file.read().decode()
    _, status = os.waitpid(child, 0)
    return what if os.WIFEXITED(status) else _death(os.WTERMSIG(status), silent)


def minimised(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A smaller input that fails too: without lines, then words, then characters (Zeller and Hildebrandt, TSE 2002)."""
    end = time.monotonic() + MINIMISING
    for pattern in (rb"[^\n]*\n?", rb"\w+|\s+|.", rb"(?s:.)"):
        parts = [p for p in re.findall(pattern, data) if p]
        size = max(1, len(parts) // 2)
        while True:
            before, i = len(parts), 0
            while i < len(parts) and time.monotonic() < end:
                fewer = parts[:i] + parts[i + size :]
                if fails(b"".join(fewer)):
                    parts = fewer
                else:
                    i += size
            if time.monotonic() > end or (size == 1 and len(parts) == before):
                break
            size = max(1, size // 2)
        data = b"".join(parts)
    return data


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--inputs", type=int, default=10_000, help="how many")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--save", type=Path, help="folder for what is found")
    options.add_argument("--kind", choices=KINDS, help="one fuzzer instead of both in turn")
    options.add_argument("--show", type=int, metavar="NUMBER", help="print one input instead")
    given = options.parse_args()
    kinds = (given.kind,) if given.kind else TURNS
    if given.show is not None:
        sys.stdout.buffer.write(Inputs(given.seed, kinds).make(given.show))
        return
    save = given.save.resolve() if given.save else None
    sys.exit(0 if Campaign(given.seed, kinds, given.inputs, given.processes, save).run() else 1)


if __name__ == "__main__":
    main()
