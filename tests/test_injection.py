"""A spec is untrusted: what it says is refused, or becomes names and data of the generated files, and never code.

Every attempt puts something hostile where something clean stood. The two must have the same code, but for the names
that the spec itself defines; and the hostile network must still be the one that was counted.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

import pytest
import torch
from torch import nn

from archdsl.base.signing import is_untouched
from archdsl.cli import main
from archdsl.driver import Compiled, load

CANARY = "pwned"
SNARES = f"setattr(__import__('builtins'), '{CANARY}', 1)", f"open('{CANARY}', 'w')"
"""Python that leaves a trace where it is run."""
SNARE = f"[{', '.join(SNARES)}]"


def net(flow: str, clauses: str = "") -> str:
    return f"net example on digits {{ {flow} -> GlobalAvgPool -> Linear(classes) {clauses} }}\n"


# ---- the attempts: specs with @ for what is hostile

PATHS = "mean(drop_path=0.1, one_column=0.5) { Conv(8, 3), Conv(8, 3) }"
SUM = "block Unit() { BatchNorm -> Conv(8, 3) }\nblock Sum() { sum 8 { Unit() } }\n"
PLACE = "\n place {{ {} }}"

COMMON = "class None match print super torch nn F self forward x training _modules __init__ __w _1 to"
NAMES = {
    "block": (f"block @(w) {{ Conv(w, 3) -> ReLU }}\n{net('a: @(8) -> b: @(4)')}", f"{COMMON} Tensor init_weights _"),
    "list": (f"block @(w) [Conv(w, 3)]\n{net('a: @(8) -> b: @(4)')}", f"{COMMON} build_model __builtins__ __name__"),
    "block without a label": (
        f"block @() {{ Conv(8, 3) }}\n{net('Conv(8, 3) -> @() -> repeat 2 { @() }')}",
        f"{COMMON} Forward Class Train eval type modules state_dict Half _ __class__",
    ),
    "block beside layers": (
        f"block @() [Tanh]\n{net('Conv(8, 3) -> Conv(8, 3) -> @() -> repeat 2 { Conv(8, 3) }')}",
        "Conv Conv1 Conv2 Convs Fc Fc1",
    ),
    "block, split": (
        f"block @() {{ Conv(8, 3) }}\n{SUM}{net('a: @() -> Sum()', PLACE.format('split 2'))}",
        "Sequence Split Any device",
    ),
    "list, mesh": (
        f"block @() [Conv(8, 3)]\n{SUM}{net('a: @() -> b: @() -> Sum()', PLACE.format('mesh 2'))}",
        "Sequence DeviceMesh dist buffers Enter mesh",
    ),
    "list, drop-path": (f"block @() [Conv(8, 3)]\n{net(f'a: @() -> b: @() -> {PATHS}')}", "draw_column DropPath"),
    "net": (net("Conv(8, 3)").replace("example", "@"), f"{COMMON} init_weights build_model _ Sequence"),
    "network": ("net @ = Conv(8, 3) -> GlobalAvgPool -> Linear(10) on digits\n", "class torch F x _1 Network main"),
    "parameter": (
        f"block Unit(@) {{ Conv(@, 3) -> BatchNorm }}\n{net('Unit(8) -> Unit(@=16)')}",
        f"{COMMON} in_channels module int len range _",
    ),
    "parameter of a list": (
        f"block Unit(@) [Conv(@, 3)]\n{net('Unit(8) -> repeat 2 { Unit(9) }')}",
        "class module i _",
    ),
    "parameter that is kept": (
        f"block Unit(w, @) {{ Conv(w, 3) -> Subsample(@) }}\n{net('Unit(8, 1) -> Unit(16, @=2)')}",
        f"{COMMON} parameters modules state_dict train eval type apply register_buffer T_destination __class__",
    ),
    "label": (
        net("@: Conv(8, 3) -> a: { @: Conv(8, 3) -> ReLU } -> ReLU -> b: Conv(8, 3)"),
        f"{COMMON} def int len parameters modules register_buffer state_dict train eval T_destination __class__",
    ),
    "numbered label": (net("repeat 3 as i { @{i}: Conv(8, 3) }"), "class None print F self x __class__ Linear bn"),
    "label of a list": (
        net("repeat 3 as i { @[i]: Conv(8, 3) -> ReLU }"),
        "class None F self x modules lambdas selfs Fs",
    ),
    "share": (net("@ -> @").replace("{", "{ share @ = Conv(1, 3)\n"), f"{COMMON} conv int eval"),
    "let": (
        net(f"@ + (@ -> {PATHS}) -> Conv(8, 3) -> ReLU").replace("{", "{ let @ = in -> Conv(8, 3)\n", 1),
        f"{COMMON} draw_column auxiliary term out conv1 n2",
    ),
    "number": (
        f"block Unit(w) {{ let @ = w + 3\n Conv(@, 3) }}\n{net('Unit(8) -> Unit(9) -> Unit(9)')}",
        "class F x __w",
    ),
    "index": (net("for @, w in [8, 12] { a{@}: Conv(w, 3) -> Conv(@ + 8, 3) }"), "class F self range i x"),
}
"""A spec with @ for a name -> the names to try."""

NO_NAMES = [
    *("\u0430", "\uff4f\uff53", "\ufb01le", "e\u0301", "x\u00b2", "a\u200d", "__\u0131mport__", "\u0663", "\ufeffa"),
    *("a.b", 'a"', "a;import os", "a\nimport os", "{{ 7 * 7 }}", "{% raw %}", f"a = {SNARE}", "a\0", "a\\", "a#"),
]
"""Look-alikes, which Python would take for other names or none, and what is more than a name."""

LABELS = {
    "repeat 3 as i { a{i}: Conv(8, 3) } -> b: Conv(8, 3)": "a1 a{1} a{2-1} a01",
    "repeat 20 as i { a1{i}: Conv(8, 3) } -> b: Conv(8, 3)": "a11 a{11} a1{1}",
    "repeat 3 as i { a[i]: Conv(8, 3) } -> b: Conv(8, 3)": "a a[0] a[3] a{0}",
    "repeat 3 { Conv(8, 3) } -> b: Conv(8, 3)": "convs convs2 convs[0] convs{0} conv conv1",
}
"""A flow -> labels in the place of `b`, which others may have."""

TEXTS = [
    *('"', '""', '"""', '""""', "'''", f'"""\n{SNARE}\n"""', f'"""+{SNARE}+"""', "\\", '\\"', '\\"""', "x\\", 'y"'),
    *("\\N{DASH}", "\\x", f"\r{SNARE}", "a\rb", "\f", "\0", "\x1a", "\x1b[31m", "\x85", "\u2028", "\u2029", "\u202e"),
    *("\u2066", "\ufeff", "\U0001f600", "{{ 7 * 7 }}", "{{ self }}", "{% raw %}", "{% include 'x' %}", "{# x #}", ""),
    *("\n## ", "%(prog)d", "{x}", "{", "#", "# type: ignore", "nn.Linear( F.relu(", "coding: utf-7", "x" * 3000),
    "    checksum       0123456789abcdef",
]
WRITTEN = {
    "doc": "## @\n\n## @\nblock Unit() { Conv(10, 3) }\n\n## @\nnet example on digits { Unit() -> GlobalAvgPool }\n",
    "message": 'block Unit(w) { require w == 8, "@"\n Conv(w, 3) }\n' + net("Unit(8)"),
    "message that is shown": 'block Unit(w) { require w != 8, "@"\n Conv(w, 3) }\n' + net("Unit(8)"),
    "text": net('Conv(8, 3) -> (if s == "x" then ReLU else Tanh)').replace("example", "example(s)") + 'example("@")',
    "import": 'from "@" import Unit\n' + net("Unit()"),
    "list of texts": net('Conv(8, 3) -> (if s == "x" then ReLU else Tanh)')
    .replace("example on digits {", "example =")
    .replace("classes)  }", '10) on digits for s in ["@"]'),
}
"""A spec with @ for a text."""

NUMBERS = '1e999 1e-999 0x8 8_0 8_ 010 8.0 8j -8 "8" \u0668 true (8) [8,8] ? 1e1 8|8 9223372036854775808 __import__'
COUNTED = {
    "width": net("Conv(@, 3)"),
    "weight": net("Conv(8, 3)", "\n aux @: in -> Flatten -> Linear(classes)"),
    "devices": SUM + net("Conv(8, 3) -> Sum()", PLACE.format("split @")),
    "classes": "WRN(10, 1) on digits -> @",
    "channels": "Conv(8, 3) on @x8x8",
}
"""A spec with @ for a number."""

SETTINGS = {
    "lr 0.1": ["lr 1e-60", "lr 1e-999", 'lr "0.1"', "lr nan", "lr 1.0 / 3", "lr 1e2 - 1e-30", "lr classes", "lr 0.1j"],
    "epochs 2": ["epochs 1_000", 'epochs "2"', f"epochs {SNARE}", f"epochs {'9' * 40}", "epochs 0x2", "epochs none"],
    "optimizer sgd": ['optimizer "sgd"', 'optimizer "sgd\\nimport os"', "optimizer os.system", "optimizer __import__"],
    "schedule step": ['schedule "step"', 'schedule "{{ 7 }}"', "precision torch", 'precision "auto\\""', "flip print"],
    "milestones [1]": ['milestones ["1"]', "milestones [9223372036854775807]", "milestones [[1]]", "milestones 1, 2"],
    "seed 3": ["seed 3 = 4", "seed 4294967296", 'seed "3"', "__class__ 3", 'data "../x"', 'data_dir "/etc"', "SPEC 1"],
    "gamma 0.5": ['gamma "0.5) or exit("', "gamma 5e-1", "momentum 0.9, 1", "nesterov True", "crop_padding 1e1"],
}
"""A setting -> others in its place."""

COMMANDS = [
    *("@{ }", "@ for k in [1]", "@\0", "@\n", f"@ # {SNARE}", f"@\n{SNARE}", f"@\r{SNARE}", "@ # \udcff", '@"""'),
    *(f"## \r{SNARE}\n@", "## \0\n@", '## """\n@', "## {{ 7 }}\r\n@", "## \udcff\n@", '"""; import os', "{{ 7 * 7 }}"),
    *("@ { expect params __import__ }", "WRN(1_0, 1_) on digits", "WRN(010, 1) on digits", "WRN(10, __import__)"),
    *("WRN(10, k) on digits for k in [1]", "__import__('os')", '__import__("os")', 'WRN(10, "1")', "\uff37RN(10, 1)"),
    *("WRN(10, 1) on d\u0131gits", "WRN(10, 1) on torch", 'WRN(10, 1) on "digits"', "WRN(10, 1) on ../x", "-", "--"),
    *("\0.arch", "--help.arch", "x" * 5000 + ".arch", 'Conv(8, 3, padding="same") on digits', "@ { place { x } }"),
]
"""Expressions on the command line, with @ for a clean one."""


@dataclass(frozen=True)
class Attempt:
    text: str
    twin: str
    """The same without what is hostile."""
    file: str | None = "spec.arch"
    """The name of the file; without one the text is given on the command line."""
    same_code: bool = False
    """Whether nothing may differ but documentation."""


Named = Iterator[tuple[str, Attempt]]


def attempts() -> Named:
    """Every attempt, with a name for the test."""

    def tried(kind: str, form: str, clean: str, hostile: Iterable[str], same_code: bool = False) -> Named:
        for text in hostile:
            yield f"{kind} {text}", Attempt(form.replace("@", text), form.replace("@", clean), same_code=same_code)

    for kind, (form, names) in NAMES.items():
        yield from tried(kind, form, "plain", names.split())
        if kind in ("block", "label", "net", "parameter"):
            yield from tried(kind, form, "plain", NO_NAMES)
    for flow, names in LABELS.items():
        yield from tried("label", net(f"Conv(8, 3) -> {flow}".replace("b:", "@:")), "b", names.split())
    for kind, form in WRITTEN.items():
        texts = [*TEXTS, *NO_NAMES] if kind == "list of texts" else TEXTS
        if kind != "doc":
            texts = [re.sub(r'(["\\])', r"\\\1", text.replace("\n", " ")) for text in texts]
        yield from tried(kind, form, "a", texts, same_code=kind in ("doc", "message", "text"))
    for kind, form in COUNTED.items():
        yield from tried(kind, form, "8", NUMBERS.split())
    for clean, hostile in SETTINGS.items():
        yield from tried("setting", net("Conv(8, 3)", "\n train { @ }"), clean, hostile)
    for text in COMMANDS:
        yield f"command {text}", Attempt(text.replace("@", "WRN(10, 1) on digits"), "WRN(10, 1) on digits", None)
    plain = net("Conv(8, 3)")
    for text in [*(t for t in TEXTS if "\0" not in t and len(t) < 100), "\udcff"]:
        yield f"file {text}", Attempt(plain, plain, f"-{text}\n{text}\n.arch".replace("/", " "), same_code=True)


# ---- what a generated file is made of


@cache
def stripped(text: str) -> tuple[ast.Module, CodeType]:
    """A generated file without its documentation, and without what it calls its spec; and what Python makes of it."""
    head = ast.parse(text).body[0]
    assert isinstance(head, ast.Expr) and isinstance(head.value, ast.Constant)
    lines = text.split("\n")[(head.end_lineno or 0) - 1 :]
    tree = ast.parse("\n".join([lines[0].encode()[head.end_col_offset :].decode(), *lines[1:]]))
    inner = [node for outer in tree.body if isinstance(outer, ast.ClassDef) for node in outer.body]
    for node in (*tree.body, *inner):
        match node:
            case ast.ClassDef(body=body) | ast.FunctionDef(body=body):
                del body[: ast.get_docstring(node) is not None]
            case ast.Assign([ast.Name("SPEC" | "SPEC_HASH")], ast.Constant(str()) as data):
                data.value = ""
    return tree, compile(tree, "<generated>", "exec")


@cache
def facts(text: str) -> frozenset[tuple[str, str]]:
    """What a generated file says: the kind and the text of everything that its spec may have had a hand in."""
    tree, _ = stripped(text)
    found: set[tuple[str, str]] = set()
    bound = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    for node in ast.walk(tree):
        match node:
            case ast.Constant(str(value)):
                found.add(("text", value))
            case ast.Call(func):
                called = ast.unparse(func.value if isinstance(func, ast.Subscript) else func)
                found.add(("call", called if re.fullmatch(r"(self\.)?\w+", called) else called[called.rfind(".") :]))
            case ast.Import(names) | ast.ImportFrom(names=names):
                found.add(("import", ast.unparse(node)))
                bound += [alias.asname or alias.name for alias in names]
            case ast.Name(name, ast.Store()):
                found.add(("variable", name))
            case ast.Attribute(ast.Name("self"), name, ast.Store()):
                found.add(("attribute", name))
        if not isinstance(node, ast.Constant):
            found |= {("name", value) for value in vars(node).values() if isinstance(value, str)}
    return frozenset(found | {("bound" if bound.count(name) == 1 else "bound twice", name) for name in bound})


def core(name: str) -> str:
    """What names made from one have in common: `WideUnit`, `wide_unit2` and `has_wide_unit`; `Cross` and `crosses`."""
    return re.sub(r"^(fused|has|first|plain|not)(?=.)|[es\d]*$", "", name.replace("_", "").lower())


def check(text: str, twin: str, spec: str, name: str, same_code: bool = False) -> None:
    """A generated file has the code of another, but for names that its spec defines."""
    (tree, program), (other_tree, other_program) = stripped(text), stripped(twin)
    if program == other_program:
        return
    assert not same_code or ast.dump(tree) == ast.dump(other_tree)
    mine = facts(text)
    words = re.findall(r"[A-Za-z_]\w*", re.sub(r'#.*|"(\\.|[^"\\\n])*"', "", spec), re.ASCII)
    cores = {core(word) for word in ("Block", "Network", "out", name, *words)}

    def allowed(kind: str, text: str) -> bool:
        match kind:
            case "name" | "text":
                return core(text) in cores and re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII) is not None
            case "call":
                own = text.startswith("self.") and core(text[5:]) in cores
                return own or ("bound", text) in mine or ("variable", text) in mine
            case "attribute":
                return not hasattr(nn.Module(), text)
            case _:
                return kind in ("bound", "variable")

    assert not [fact for fact in mine - facts(twin) if not allowed(*fact)]


def run(text: str, name: str, **known: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(known)
    exec(compile(text, f"<{name}>", "exec"), vars(module))
    return module


def check_model(module: ModuleType, compiled: Compiled) -> None:
    """The module has the parameters that were counted, and can be run."""
    network = compiled.network
    placement = network.placement
    with torch.device("cpu" if placement else "meta") as device:
        split = placement is not None and placement.kind == "split"
        model = module.build_model(*([[str(device)] * placement.devices] if placement and split else []))
        assert sum(p.numel() for p in model.parameters()) == compiled.check().params
        model.train()(torch.zeros(2, *network.input.dims))
        assert model.eval()(torch.zeros(2, *network.input.dims)).shape == (2, *network.output.dims)
    assert model.state_dict()


# ---- the attempts


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test runs what a spec says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(os, "fork", raising=False)  # a process with torch in it is slow to copy
    monkeypatch.setattr(os, "fsync", lambda file: None)
    yield
    assert not sprung()


def sprung() -> bool:
    """Whether the snare has been run; it is set again."""
    found = hasattr(builtins, CANARY) or Path(CANARY).exists()
    vars(builtins).pop(CANARY, None)
    Path(CANARY).unlink(missing_ok=True)
    return found


@cache
def files_of(spec: str) -> tuple[str, ...]:
    """What a clean spec compiles to."""
    (compiled,) = load(spec)
    return (compiled.model(), compiled.train()) if compiled.network.classes else (compiled.model(),)


def test_there_are_attempts() -> None:
    found = [attempt for _, attempt in attempts()]
    assert len(found) > 500
    assert all(files_of(twin) for twin in {a.twin for a in found} if "!=" not in twin and "import" not in twin)


@pytest.mark.parametrize("attempt", [pytest.param(a, id=ascii(name)[1:-1][:60]) for name, a in attempts()])
def test_attempt(attempt: Attempt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = attempt.file or attempt.text
    if attempt.file:
        Path(attempt.file).write_bytes(attempt.text.encode())
    monkeypatch.setattr(sys, "argv", ["archdsl", "compile", "-o", "out", "--", spec])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    if end.value.code == 1:
        assert said.startswith("error[E") and "Traceback" not in said and not Path("out").exists()
        return
    assert end.value.code == 0, said
    (compiled,) = load(spec)
    twins = files_of(attempt.twin)
    texts = [Path("out", n).read_text(encoding="utf-8") for n in ("model.py", "train.py")[: len(twins)]]
    for text, twin in zip(texts, twins, strict=True):
        check(text, twin, attempt.text, compiled.network.name, attempt.same_code)
        assert is_untouched(text)
    model = run(texts[0], "model")
    check_model(model, compiled)
    for text in texts[1:]:
        monkeypatch.setitem(sys.modules, "model", model)
        train = run(text, "train", __file__="train.py")
        assert compiled.network.spec == train.SPEC
        monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
        with pytest.raises(SystemExit) as end:
            train.options()
        assert end.value.code == 0


# ---- the check itself

TAMPERED = {
    "an import": ("import torch\n", "import torch\nimport os\n"),
    "a call": ("return Example()", "return open(Example())"),
    "a call of a method": ("return Example()", "return Example().half()"),
    "a name": ("bias=False", "bias=pwned"),
    "an argument": ("bias=False", "pwned=False"),
    "a text": ("bias=False", 'bias="pwned"'),
    "a docstring that ends": ("1x8x8 to 10 logits.", f'"""\n{SNARE}\n"""'),
    "a name that hides another": ("def init_weights", "def Tensor"),
    "a name of every module": ("self.conv =", "self.training ="),
    "a name that looks like another": ("self.fc", "self.f\u0441"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_is_found(what: str) -> None:
    spec = net("Conv(8, 3)")
    text, _ = files_of(spec)
    old, new = TAMPERED[what]
    assert old in text
    check(text, text, spec, "example", same_code=True)
    with pytest.raises(AssertionError):
        check(text.replace(old, new), text, f"{spec}\nblock training() {{ f }}", "example")


def test_other_code_is_found() -> None:
    spec = net("Conv(8, 3)")
    text, _ = files_of(spec)
    check(text.replace("8, 3", "8, 5"), text, spec, "example")
    with pytest.raises(AssertionError):
        check(text.replace("8, 3", "8, 5"), text, spec, "example", same_code=True)


@pytest.mark.parametrize("snare", SNARES)
def test_the_canary_sings(snare: str) -> None:
    run(snare, "model")
    assert sprung() and not sprung()
