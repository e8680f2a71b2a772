"""The language server: each feature as a function of a text and a place, and all of them over the real protocol."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import queue
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archdsl.base.source import Source
from archdsl.editor.completion import Completion, completions
from archdsl.editor.context import KEYWORDS
from archdsl.editor.definition import definition
from archdsl.editor.diagnostics import problems
from archdsl.editor.document import Document, opened, path_of
from archdsl.editor.hints import hints
from archdsl.editor.hover import hover
from archdsl.editor.positions import Encoding, Position, offset_of, position_of
from archdsl.editor.server import Server, reformatted
from archdsl.frontend.parser import grammar_text, readable

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 60.0
CURSOR = "¦"

SPEC = """\
from "parts.arch" import Gate

## A convolution and its normalisation.
block Unit(width, stride=1, order: pre | post = pre) {
  let h = in -> Conv(width, 3, stride)
  if order == pre then BatchNorm -> ReLU -> Conv(width, 3) else h -> Gate -> ReLU
}

net Small(n, unit=Unit) on digits {
  conv1: Conv(8, 3) -> Gate
    -> for i, width in [8, 16] {
      layer{i + 1}: unit(width, order=post)
    }
    -> repeat n { Conv(16, 3) -> ReLU } -> down: { conv: Conv(4, 1) }
    -> GlobalAvgPool -> fc: Linear(classes)
  train {
    epochs 3
  }
}

net one = Small(2)

net many = WRN(depth, 1) on digits for depth in [10, 16]
"""

PARTS = """\
## Scales every value.
block Gate() { in * Conv(in.channels, 1) }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts.arch").write_text(PARTS, encoding="utf-8")
    return tmp_path


def placed(text: str, folder: Path) -> tuple[Document, int]:
    """The document of a text without the sign of the cursor, and where it stood."""
    offset = text.index(CURSOR)
    return opened(text.replace(CURSOR, ""), folder / "spec.arch"), offset


def within(spec: str, part: str) -> str:
    """A spec with the cursor where a part of it has it."""
    plain = part.replace(CURSOR, "")
    assert spec.count(plain) == 1, plain
    return spec.replace(plain, part)


# ---- positions


@pytest.mark.parametrize(("encoding", "character"), [("utf-16", 6), ("utf-8", 9), ("utf-32", 5)])
def test_positions_count_in_the_units_of_the_client(encoding: Encoding, character: int) -> None:
    source = Source("a.arch", "\n# \U0001f600\u00d7\tx\n")
    offset = source.text.index("x")
    assert position_of(source, offset, encoding) == (1, character)
    assert offset_of(source, Position(1, character), encoding) == offset


@pytest.mark.parametrize(
    ("position", "offset"), [((0, 0), 0), ((0, 1), 0), ((0, 2), 1), ((0, 99), 2), ((1, 5), 3), ((2, 1), 5), ((9, 0), 5)]
)
def test_there_is_an_offset_for_every_position(position: tuple[int, int], offset: int) -> None:
    assert offset_of(Source("a.arch", "\U0001f600b\n\nc"), Position(*position)) == offset


def test_a_text_is_read_as_a_file_is(folder: Path) -> None:
    document = opened("ReLU\r\n# \ud800\rConv(8, 3)\r\n", folder / "spec.arch")
    assert document.source.text == "ReLU\n# \ufffd\nConv(8, 3)\n"


# ---- diagnostics


def test_a_mistake_after_a_tab_and_an_emoji(folder: Path) -> None:
    document = opened('net a on digits {\n\trequire true, "\U0001f600"; Covn(8, 3)\n}\n', folder / "spec.arch")
    (problem,) = problems(document)
    assert problem.code == "E0201"
    assert problem.message == "unknown name `Covn`\nhelp: did you mean `Conv`?"
    assert position_of(document.source, problem.start) == (1, 21)
    assert position_of(document.source, problem.end) == (1, 25)


def test_all_mistakes_with_what_else_they_speak_of(folder: Path) -> None:
    text = (
        "net a on cifar10 {\n  let h = in -> Conv(8, 3)\n  in + h\n}\nnet b = WNR(28, 10)\nblock C(b, b) { ReLU(b) }\n"
    )
    found = {p.code: p for p in problems(opened(text, folder / "spec.arch"))}
    assert found["E0601"].message == "a sum of unequal shapes: 3x32x32 and 8x32x32\nthis is 8x32x32"
    assert [(label.text, label.span.text) for label in found["E0601"].related] == [("this is 3x32x32", "in")]
    assert [label.text for label in found["E0202"].related] == ["first here"]
    assert text[found["E0201"].start : found["E0201"].end] == "WNR"


def test_a_requirement_of_the_library_marks_the_argument(folder: Path) -> None:
    (problem,) = problems(opened("WRN(27, 10)", folder / "spec.arch"))
    assert (problem.code, problem.start, problem.end) == ("E0401", 4, 6)
    assert "help: nearest valid values of depth: 22 and 28" in problem.message
    assert all(label.span.source.library and path_of(label.span.source).is_file() for label in problem.related)
    assert problem.related


def test_what_only_defines_is_not_wrong(folder: Path) -> None:
    assert problems(opened(PARTS, folder / "parts.arch")) == []
    assert [p.code for p in problems(opened("# nothing yet\n", folder / "spec.arch"))] == ["E0104"]


def test_mistakes_of_an_imported_file_show_where_it_is_imported(folder: Path) -> None:
    (folder / "wrong.arch").write_text("block Gate() { Covn(1, 1) }\n", encoding="utf-8")
    text = 'from "parts.arch" import Gate\nfrom "wrong.arch" import Gate\nGate\n'
    found = [p for p in problems(opened(text, folder / "spec.arch")) if p.code == "E0201"]
    assert [text[p.start : p.end] for p in found] == ['"wrong.arch"']
    assert found[0].related[0].span.text == "Covn"


def test_an_unfinished_text_has_a_place_that_shows(folder: Path) -> None:
    for text in ("WRN(28,", "WRN(28, 10)\nnet", "("):
        for problem in problems(opened(text, folder / "spec.arch")):
            assert 0 <= problem.start < problem.end <= len(text)


def test_the_library_itself_is_right() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "specs" / "std").glob("*.arch"))}
    definitions = {path: text for path, text in texts.items() if not re.search(r"^net \w+ =", text, re.MULTILINE)}
    assert len(definitions) > 10
    for path, text in definitions.items():
        document = opened(text, path)
        assert document.source.library
        assert problems(document) == [], path.name


# ---- hover


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            "conv1: Co¦nv(8, 3)",
            ["Conv(width, kernel, stride=1", "`1x8x8 -> 8x8x8`, 72 parameters, 4,608 multiply-adds"],
        ),
        ("con¦v1: Conv(8, 3)", ["`1x8x8 -> 8x8x8`, 72 parameters"]),
        ("Conv(8, 3) -> Gat¦e", ["block Gate()", "Scales every value.", "`8x8x8 -> 8x8x8`, 64 parameters"]),
        ("layer{i + 1}: uni¦t(width", ["unit=Unit", "parameter of `Small`", "(the first of 2 forms)"]),
        ("lay¦er{i + 1}", ["(the first of 2 forms)"]),
        ("order=po¦st", ["`post`, which `order` takes"]),
        ("or¦der=post", ["order: pre | post = pre", "A convolution and its normalisation."]),
        ("block Un¦it", ["block Unit(width, stride=1, order: pre | post = pre)", "A convolution and", "forms)"]),
        ("let ¦h", ["let h = in -> Conv(width, 3, stride)", "`8x8x8` (the first of 2 forms)"]),
        ("else h¦ ->", ["let h = in"]),
        ("rep¦eat n", ["`16x8x8 -> 16x8x8`, 4,608 parameters"]),
        ("down¦: {", ["`16x8x8 -> 4x8x8`, 64 parameters"]),
        ("for ¦i, width", ["-> for i, width in [8, 16] {"]),
        ("net Sm¦all", ["net Small(n, unit=Unit) on digits", "`1x8x8 -> 10`"]),
        ("net on¦e", ["net one = Small(2)", "`1x8x8 -> 10`"]),
        ("one = Sma¦ll", ["net Small(n, unit=Unit)", "`1x8x8 -> 10`"]),
        ("ma¦ny =", ["for depth in [10, 16]", "(the first of 2 forms)"]),
        ("WR¦N(", ["net WRN(depth, k, dropout=0, block=B(3, 3))", "Wide residual network"]),
        ("on dig¦its {", ["Images of 1x8x8, in 10 classes."]),
        ("epo¦chs 3", ["passes over the training images", "by default `200`"]),
        ("classes)¦\n  train", []),
        ("i¦n -> Conv", []),
        ("## A con¦vol", []),
    ],
)
def test_hover(part: str, expected: list[str], folder: Path) -> None:
    document, offset = placed(within(SPEC, part), folder)
    assert problems(document) == []
    found = hover(document, offset)
    assert (found is not None) == bool(expected)
    for text in expected if found else ():
        assert found and text in found.markdown
        assert found.start <= offset <= found.end


def test_hover_where_the_text_is_wrong(folder: Path) -> None:
    document, offset = placed(within(SPEC, "WR¦N(") + "net wrong = Small(\n", folder)
    found = hover(document, offset)
    assert found and "Wide residual network" in found.markdown
    assert "multiply-adds" in found.markdown  # what is right has its figures all the same


# ---- hints


def test_hints(folder: Path) -> None:
    document = opened(SPEC, folder / "spec.arch")
    found = {document.source.line(h.line).strip(): h.text for h in hints(document)}
    total = int(found["net one = Small(2)"].split()[0].replace(",", ""))
    assert found == {
        "let h = in -> Conv(width, 3, stride)": "576 to 1,152 parameters",
        "if order == pre then BatchNorm -> ReLU -> Conv(width, 3) else h -> Gate -> ReLU": "64 to 256 parameters",
        "net Small(n, unit=Unit) on digits {": f"{total:,} parameters, 1x8x8 -> 10",
        "conv1: Conv(8, 3) -> Gate": "136 parameters",
        "layer{i + 1}: unit(width, order=post)": "2,048 parameters",
        "-> repeat n { Conv(16, 3) -> ReLU } -> down: { conv: Conv(4, 1) }": "4,672 parameters",
        "-> GlobalAvgPool -> fc: Linear(classes)": "50 parameters",
        "net one = Small(2)": "6,906 parameters, 1x8x8 -> 10",
        "net many = WRN(depth, 1) on digits for depth in [10, 16]": "77,562 to 174,778 parameters, 1x8x8 -> 10",
    }
    assert total == 136 + 2048 + 4672 + 50
    assert all(document.source.text[h.offset : h.offset + 1] == "\n" for h in hints(document))


def test_what_cannot_be_read_has_no_hints(folder: Path) -> None:
    last = SPEC.rindex("net ")
    found = hints(opened(SPEC[:last] + "net wrong = Small(\n", folder / "spec.arch"))
    assert found == hints(opened(SPEC[:last], folder / "spec.arch")) != []
    assert hints(opened("net wrong = WRN(28, 10\n", folder / "spec.arch")) == []


# ---- completion


def offered(text: str, folder: Path) -> dict[str, Completion]:
    document, offset = placed(text, folder)
    return {c.text: c for c in completions(document, offset)}


@pytest.mark.parametrize(
    ("part", "expected", "missing"),
    [
        ("net x = ¦", "WRN Small Unit Gate Conv B if", "net let stride="),
        ("¦", "net block flow from WRN Conv", "let h width classes"),
        ("net x = WRN(16, ¦", "k= dropout= block= cifar10", "depth= on"),
        ("net x = WRN(depth=16, ¦", "k= dropout=", "depth="),
        ("net x = WRN(16, dr¦", "dropout=", "depth="),
        ("net x = Unit(8, order=¦", "pre post", "stride="),
        ("net x = Unit(8, 1, ¦", "pre post order=", "stride="),
        ("net x = Conv(8, 3, bias=¦", "none", "stride="),
        ("net x = MaxPool(3, ceil=¦", "true false", "stride="),
        ("net x = B(3, 3)x[¦", "k= width=", ""),
        ("net x = Gate x[¦", "k=", ""),
        ("net x = WRN(16, 2) on ¦", "cifar10 digits", "on net"),
        ("net x = WRN(16, 2) on digits {\n  ¦", "expect train place", "net"),
        ("net x = WRN(16, 2) on digits { expect ¦", "params macs depth", "WRN"),
        ("net x = WRN(16, 2) on digits { train { ¦", "epochs optimizer lr", "WRN"),
        ("net x = WRN(16, 2) on digits { train { optimizer ¦", "sgd adamw rmsprop", ""),
        ("net x = WRN(16, 2) on digits { place { ¦", "fused split mesh", "WRN"),
        ("net x(depth) on digits {\n  let n = 3\n  repeat n as i {\n    ¦", "depth n i classes let Conv", "net expect"),
        ("net x(f=Conv(8, 3)) on digits { f(¦", "width= stride=", ""),
        ("block X(width) { let f = Unit\n f(¦", "stride= width", "classes"),
        ("net x = WRN(d, 2) for d in [¦", "WRN", ""),
        ("block X(¦", "", "WRN width"),
        ("let ¦", "", "WRN"),
        ("block X() { in.¦", "channels height width", "WRN length"),
        ("block X(a) { a.¦", "channels length", "WRN"),
        ("net x = ¦", "WRN Unit", "classes"),
        ("net x = WRN(16, 2) { train { nesterov ¦", "true false", ""),
        ('from "parts.arch" import ¦', "Gate", "WRN"),
        ('from "std/resnet.arch" import ¦', "BasicBlock Bottleneck", "WRN"),
        ('from "parts.arch" ¦', "import", "WRN"),
        ('require true, "¦', "", "WRN"),
        ("# ¦", "", "WRN"),
        ("net x = WRN(16, 0.¦", "", "channels WRN"),
        ('from "../parts.arch" import ¦', "", "Gate"),
        ('from "." import ¦', "", "Gate"),
        ("net x = Conv\n¦", "net WRN", "Conv="),
    ],
)
def test_completion(part: str, expected: str, missing: str, folder: Path) -> None:
    found = offered(f"{SPEC}\n{part}", folder)
    assert not set(expected.split()) - found.keys()
    assert not set(missing.split()) & found.keys()


def test_completions_are_documented(folder: Path) -> None:
    found = offered(f"{SPEC}\nnet x = ¦", folder)
    assert found["Unit"].documentation == "A convolution and its normalisation."
    assert found["WRN"].detail.startswith("net WRN(depth, k, dropout=0")
    assert "convolution" in found["Conv"].documentation
    assert (found["Gate"].kind, found["Conv"].kind, found["WRN"].kind) == ("block", "layer", "network")
    assert offered("Conv(¦", folder)["kernel="].documentation == "a whole number of at least 1 or a pair of them"


def test_the_words_of_the_language_are_those_of_its_grammar() -> None:
    text = re.sub(r"^//.*", "", grammar_text(), flags=re.MULTILINE)
    joins = re.search(r"^JOIN\S*: /\((.+?)\)", text, re.MULTILINE)
    assert joins
    assert {*re.findall(r'"([a-z]+)"', text), *joins[1].split("|")} == KEYWORDS


# ---- definition


@pytest.mark.parametrize(
    ("part", "file", "text"),
    [
        ("one = Sma¦ll", "spec.arch", "Small"),
        ("unit=Uni¦t", "spec.arch", "Unit"),
        ("uni¦t(width", "spec.arch", "unit"),
        ("ord¦er=post", "spec.arch", "order"),
        ("else ¦h ->", "spec.arch", "h"),
        ("unit(wid¦th", "spec.arch", "width"),
        ("WRN(dep¦th", "spec.arch", "depth"),
        ("8, 3) -> Ga¦te", "parts.arch", "Gate"),
        ("import Ga¦te", "parts.arch", "Gate"),
        ('"par¦ts.arch"', "parts.arch", ""),
        ("W¦RN(", "std/wrn.arch", "WRN"),
    ],
)
def test_definition(part: str, file: str, text: str, folder: Path) -> None:
    document, offset = placed(within(SPEC, part), folder)
    span = definition(document, offset)
    assert span and span.text == text
    expected = ROOT / "specs" / file if file.startswith("std/") else folder / file
    assert path_of(span.source) == expected.resolve()
    if file != "spec.arch":
        assert expected.read_text(encoding="utf-8")[span.start : span.end] == text


def test_what_is_built_in_has_no_definition(folder: Path) -> None:
    for part in ("conv1: Co¦nv(8", "Small(n, unit=Unit) on dig¦its", "epo¦chs"):
        assert definition(*placed(within(SPEC, part), folder)) is None


# ---- texts that are wrong


def test_what_cannot_be_read_is_left_out_and_all_else_stays(folder: Path) -> None:
    text = "## Right.\nblock A() { ReLU }\n## Wrong.\nblock B2( {\n\nnet c = A\n"
    found = readable(Source("spec.arch", text))
    assert found.file.source.text == text.replace("## Wrong.\nblock B2( {", f"{' ' * 9}\n{' ' * 11}")
    assert found.unread == "## Wrong.\nblock B2( {\n\n" and len(found.problems) == 1
    assert [getattr(i, "name", "") for i in opened(text, folder / "spec.arch").items] == ["A", "c"]


def test_formatting() -> None:
    assert reformatted(Source("spec.arch", "WRN( 16,2 )on digits")) == "WRN(16, 2) on digits\n"
    assert reformatted(Source("spec.arch", "WRN( 16,2 on digits")) is None


def test_no_text_is_too_strange(folder: Path) -> None:
    """Specs with random changes, at random places: every feature answers, and inside of the text."""
    chance = random.Random(1)
    specs = [SPEC, *(p.read_text(encoding="utf-8") for p in sorted((ROOT / "tests" / "errors").glob("*.arch")))]
    scraps = ["", "(", ")", "{", "}", "[", "]", "->", "net ", "block ", '"', "\n", "#", "##", "\U0001f600", "\t", "x["]
    scraps += ["let ", "\0", "\u2028", "\f", "\r", "for ", ",", "=", "."]
    for _ in range(40):
        text = chance.choice(specs)
        for _ in range(chance.randint(1, 3)):
            start = chance.randint(0, len(text))
            text = text[:start] + chance.choice(scraps) + text[start + chance.randint(0, 20) :]
        document = opened(text, folder / "spec.arch")
        size = len(document.source.text)
        for problem in problems(document):
            assert 0 <= problem.start <= problem.end <= size
        assert all(0 <= h.offset <= size for h in hints(document))
        reformatted(document.source)
        for offset in (0, size, chance.randint(0, size), chance.randint(0, size)):
            found = hover(document, offset)
            assert found is None or found.start <= offset <= found.end
            definition(document, offset)
            completions(document, offset)


def test_only_the_server_knows_the_protocol() -> None:
    for path in sorted((ROOT / "archdsl").rglob("*.py")):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        names = [n.module or "" for n in tree if isinstance(n, ast.ImportFrom)]
        knows = any(name.split(".")[0] in ("pygls", "lsprotocol") for name in names)
        assert knows == (path.name == "server.py" and path.parent.name == "editor"), path


def test_a_bug_is_logged_and_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    logged: list[str] = []
    monkeypatch.setattr(server.connection, "window_log_message", lambda log: logged.append(log.message))

    async def handler(params: str) -> str:
        raise AssertionError(params)

    assert asyncio.run(server._guarded(handler)("a bug")) is None
    assert len(logged) == 1 and "AssertionError: a bug" in logged[0]


# ---- the protocol


class Client:
    """Speaks the protocol to a server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "archdsl.editor.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
        )
        self.uri = (folder / "spec.arch").as_uri()
        self.folder = folder
        self.version = 0
        self.number = 0
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.logged: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout
        while header := self.process.stdout.readline():
            length = 0
            while header.strip():
                name, _, value = header.decode().partition(":")
                length = int(value) if name == "Content-Length" else length
                header = self.process.stdout.readline()
            self.messages.put(json.loads(self.process.stdout.read(length)))

    def _send(self, **message: Any) -> None:
        assert self.process.stdin
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()

    def wait(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message of a kind."""
        while True:
            message = self.messages.get(timeout=TIMEOUT)
            if message.get("method") == "window/logMessage":
                self.logged.append(message["params"]["message"])
            if is_it(message):
                return message

    def notify(self, method: str, params: Any = None) -> None:
        self._send(method=method, params=params)

    def request(self, method: str, params: Any = None) -> Any:
        """What the server answers."""
        self.number += 1
        number = self.number
        self._send(id=number, method=method, params=params)
        answer = self.wait(lambda m: m.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def start(self, *encodings: str) -> dict[str, Any]:
        general = {"positionEncodings": list(encodings)} if encodings else {}
        found = self.request("initialize", {"processId": None, "rootUri": None, "capabilities": {"general": general}})
        self.notify("initialized", {})
        capabilities: dict[str, Any] = found["capabilities"]
        return capabilities

    def open(self, text: str) -> list[dict[str, Any]]:
        """Open a document; what is wrong with it."""
        self.version += 1
        item = {"uri": self.uri, "languageId": "arch", "version": self.version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})
        return self.published()

    def change(self, text: str) -> None:
        self.version += 1
        document = {"uri": self.uri, "version": self.version}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})

    def published(self) -> list[dict[str, Any]]:
        """The next diagnostics."""
        message = self.wait(lambda m: m.get("method") == "textDocument/publishDiagnostics")
        assert message["params"]["uri"] == self.uri
        found: list[dict[str, Any]] = message["params"]["diagnostics"]
        return found

    def published_of(self, uri: str) -> list[dict[str, Any]]:
        """The next diagnostics of a file."""
        method = "textDocument/publishDiagnostics"
        message = self.wait(lambda m: m.get("method") == method and m["params"]["uri"] == uri)
        found: list[dict[str, Any]] = message["params"]["diagnostics"]
        return found

    def ask(self, feature: str, text: str, part: str) -> Any:
        """A request about the place of the cursor in a part of a text of ASCII."""
        before = text[: text.index(part.replace(CURSOR, "")) + part.index(CURSOR)]
        place = {"line": before.count("\n"), "character": len(before) - before.rfind("\n") - 1}
        return self.request(f"textDocument/{feature}", {"textDocument": {"uri": self.uri}, "position": place})

    def stop(self) -> int:
        """Say goodbye; the exit status."""
        assert self.request("shutdown") is None
        self.notify("exit")
        return self.process.wait(TIMEOUT)


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    client = Client(folder)
    try:
        yield client
    finally:
        client.process.kill()
        client.process.wait()


def test_a_client_that_leaves_without_a_word(client: Client) -> None:
    client.start()
    client.notify("exit")
    assert client.process.wait(TIMEOUT) == 1


def test_what_other_open_files_say_counts(client: Client) -> None:
    """As they stand in the editor, and as they are on disk once they are closed or changed by somebody else."""
    client.start()
    parts = client.folder / "parts.arch"
    spec = 'from "parts.arch" import Gate\n\nnet a on digits { Gate(8) }\n'
    text = "block Gate(w) { Conv(w, 3) }\n"
    parts.write_text(text)
    assert client.open(spec) == []
    document = {"uri": parts.as_uri(), "version": 1}
    client.notify("textDocument/didOpen", {"textDocument": {**document, "languageId": "arch", "text": text}})
    client.published_of(parts.as_uri())
    changed = [{"text": "\n\nblock Gate(w) { in + Conv(w, 3) }\n"}]
    client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": changed})
    while not (found := client.published_of(client.uri)):
        pass
    assert found[0]["code"] == "E0601" and found[0]["range"]["start"] == {"line": 2, "character": 18}
    (place,) = {r["location"]["uri"] for r in found[0]["relatedInformation"] if "1x8x8" in r["message"]}
    assert place == parts.as_uri()
    assert client.ask("definition", spec, "Ga¦te(8)")["range"]["start"]["line"] == 2

    client.notify("textDocument/didClose", {"textDocument": document})
    while client.published_of(client.uri):
        pass
    parts.write_text("block Other() { ReLU }\n")
    client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": parts.as_uri(), "type": 2}]})
    while not (found := client.published_of(client.uri)):
        pass
    assert found[0]["code"] == "E0207"


def test_a_session(client: Client) -> None:
    capabilities = client.start()
    assert capabilities["positionEncoding"] == "utf-16"
    for name in ("hover", "inlayHint", "completion", "definition", "documentFormatting"):
        assert capabilities[f"{name}Provider"]

    # A mistake, mended; the import is read from the folder of a document that is not saved.
    wrong = 'net a on digits {\n\trequire true, "\U0001f600"; Covn(8, 3)\n}\n'
    (found,) = client.open(wrong)
    assert (found["code"], found["severity"], found["source"]) == ("E0201", 1, "archdsl")
    assert found["message"] == "unknown name `Covn`\nhelp: did you mean `Conv`?"
    assert found["range"] == {"start": {"line": 1, "character": 21}, "end": {"line": 1, "character": 25}}
    client.change("block B2(a, a) { in }\n")
    found = next(p for p in client.published() if p["code"] == "E0202")
    (related,) = found["relatedInformation"]
    assert (related["message"], related["location"]["uri"]) == ("first here", client.uri)
    client.change(SPEC)
    assert client.published() == []
    assert not (client.folder / "spec.arch").exists()

    shown = client.ask("hover", SPEC, "conv1: Co¦nv")
    assert "72 parameters" in shown["contents"]["value"]
    line = SPEC[: SPEC.index("conv1:")].count("\n")
    assert shown["range"] == {"start": {"line": line, "character": 9}, "end": {"line": line, "character": 13}}
    assert client.ask("hover", SPEC, "## A con¦vol") is None

    whole = {"start": {"line": 0, "character": 0}, "end": {"line": 99, "character": 0}}
    document = {"uri": client.uri}
    labels = client.request("textDocument/inlayHint", {"textDocument": document, "range": whole})
    assert "6,906 parameters, 1x8x8 -> 10" in [hint["label"] for hint in labels]
    one = {"start": {"line": line, "character": 0}, "end": {"line": line, "character": 5}}
    (label,) = client.request("textDocument/inlayHint", {"textDocument": document, "range": one})
    assert label["position"] == {"line": line, "character": len("  conv1: Conv(8, 3) -> Gate")}

    target = client.ask("definition", SPEC, "WR¦N(")
    assert target["uri"] == (ROOT / "specs" / "std" / "wrn.arch").as_uri()
    assert client.ask("definition", SPEC, "8, 3) -> Ga¦te")["uri"] == (client.folder / "parts.arch").as_uri()
    assert client.ask("definition", SPEC, "= Sma¦ll")["uri"] == client.uri
    assert client.ask("definition", SPEC, "conv1: Co¦nv") is None

    # Formatting changes what is right and leaves alone what is not.
    options = {"textDocument": document, "options": {"tabSize": 2, "insertSpaces": True}}
    client.change("WRN( 16,2 )on digits")
    assert client.published() == []
    (edit,) = client.request("textDocument/formatting", options)
    assert edit["newText"] == "WRN(16, 2) on digits\n"
    assert edit["range"] == {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 20}}
    client.change(edit["newText"])
    assert client.published() == []
    assert client.request("textDocument/formatting", options) == []
    unfinished = "net x = WRN(16, "
    client.change(unfinished)
    assert [p["code"] for p in client.published()] == ["E0103"]
    assert client.request("textDocument/formatting", options) == []
    listed = client.ask("completion", unfinished, "WRN(16, ¦")
    first = sorted(listed if isinstance(listed, list) else listed["items"], key=lambda c: c["sortText"])[:3]
    assert [c["label"] for c in first] == ["block=", "dropout=", "k="]

    # A file that is imported changes on disk.
    client.change('from "parts.arch" import Gate\nGate\n')
    assert client.published() == []
    (client.folder / "parts.arch").write_text("block Gate() { Covn(1, 1) }\n", encoding="utf-8")
    client.notify("textDocument/didSave", {"textDocument": document})
    (found,) = client.published()
    assert found["range"]["start"] == {"line": 0, "character": 5}
    assert found["relatedInformation"][0]["location"]["uri"] == (client.folder / "parts.arch").as_uri()

    client.notify("textDocument/didClose", {"textDocument": document})
    assert client.published() == []
    assert client.logged == []
    assert client.stop() == 0


def test_the_server_outlives_what_is_strange(client: Client) -> None:
    """Texts, places and messages that nobody should send; and a client that counts in bytes."""
    assert client.start("utf-8", "utf-16")["positionEncoding"] == "utf-8"
    (found,) = client.open('net a on digits { require true, "\U0001f600"; Covn(8, 3) }')
    assert found["range"]["start"] == {"line": 0, "character": 40}
    texts = [
        "",
        "\0",
        "(" * 5000,
        "net a = " + "-" * 30000 + "1",
        "{" * 999,
        "\ud800",
        '"',
        "x" * 70000,
        "Conv(8, 3) -> " * 100000,
        "x" * 60000 + " ",
        "##\n" * 20000 + "(",
    ]
    texts += ["net a = " + "Conv(1, 1) -> " * 3000 + "ReLU", "block F() { F }\nnet a on digits { F }"]
    document = {"uri": client.uri}
    for text in texts:
        client.change(text)
        for place in ({"line": 0, "character": 0}, {"line": 10**6, "character": 10**6}):
            asked = {"textDocument": document, "position": place}
            for feature in ("hover", "completion", "definition"):
                client.request(f"textDocument/{feature}", asked)
        client.request(
            "textDocument/formatting", {"textDocument": document, "options": {"tabSize": 2, "insertSpaces": True}}
        )
    client.notify("nonsense/unknown", {"a": 1})
    elsewhere = {"uri": "untitled:none"}
    assert (
        client.request("textDocument/hover", {"textDocument": elsewhere, "position": {"line": 0, "character": 0}})
        is None
    )
    client.change("ReLU")
    client.change("Covn(8, 3)")
    while not (found := client.published()) or found[0]["code"] != "E0201":
        pass
    assert client.stop() == 0


def test_the_server_leaves_when_its_client_does(client: Client) -> None:
    client.start()
    assert client.process.stdin
    client.process.stdin.close()
    client.process.wait(TIMEOUT)
