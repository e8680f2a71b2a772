"""The Python model and the templates -> text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from archdsl import resources
from archdsl.backend.initial import Start, starts_of, title_of
from archdsl.backend.lower import Care, Module, lower
from archdsl.backend.pymodel import WIDTH, Class, Function
from archdsl.backend.training import train_view
from archdsl.backend.validate import Unfaithful, validate
from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.base.signing import UNSIGNED, signed
from archdsl.base.suggest import spoken
from archdsl.base.version import __version__
from archdsl.core.ir import Block, Layer, Network, Origin, applications, blocks_of
from archdsl.core.measure import measure
from archdsl.core.placement import functions_of, place

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, slots=True)
class ModelView:
    """What templates/model.py.j2 is given."""

    title: str
    provenance: tuple[str, ...]
    uses_functional: bool
    imports: tuple[str, ...]
    initial: tuple[Start, ...]
    init_doc: tuple[str, ...]
    starts: tuple[tuple[str, str, str], ...]
    support: tuple[str, ...]
    definitions: tuple[tuple[str, ...], ...]
    network: str
    input: str
    placement: str
    devices: int


@cache
def environment() -> Environment:
    """Templates in which an unknown name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(resources.folder("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def emit_model(network: Network) -> str:
    """The text of model.py, which has been found to say what the IR says; `network.placement` says where it runs.

    Where it does not, the definitions at fault are written with more care; Unfaithful is raised if that does not help.
    Raises ArchError for a network of more operations than PyTorch could hold.
    """
    operations = measure(network).operations
    if operations > limits.OPERATIONS:
        most = f"at most {limits.OPERATIONS:,} are written as PyTorch"
        problem = f"{network.name} has {operations:,} layers and operations, and {most}"
        raise error("too-large", None, problem=problem)
    network = place(network)
    care: dict[Origin, Care] = {}
    while True:
        try:
            return _validated(network, care)
        except Unfaithful as fault:
            more = {
                origin: Care(care.get(origin, Care.SHARED) + 1)
                for origin in fault.origins
                if care.get(origin) != Care.PLAIN
            }
            if not more:
                raise
            care |= more


def _validated(network: Network, care: Mapping[Origin, Care]) -> str:
    module = lower(network, care)
    text = environment().get_template("model.py.j2").render(**asdict(model_view(network, module)))
    validate(text, (d.name for d in module.definitions), module.network, module.starts, network)
    return signed(text)


def emit_train(network: Network) -> str:
    """The text of train.py."""
    view = train_view(
        network, title(network, len("Train ")), (*_generated(network), *_recipe(network), *_marks(network))
    )
    return signed(environment().get_template("train.py.j2").render(**asdict(view)))


def model_view(network: Network, module: Module) -> ModelView:
    definitions = tuple(tuple(_definition(d)) for d in module.definitions)
    lines = [line for d in module.definitions for line in _definition(replace(d, doc=()))]
    support = tuple(_support(name, network) for name in module.support)
    return ModelView(
        title=title(network),
        provenance=provenance(network),
        uses_functional=any("F." in line for line in (*lines, *support)),
        imports=_imports(support),
        initial=starts_of(network),
        init_doc=tuple(_doc((title_of(network),), 4)),
        starts=module.starts,
        support=support,
        definitions=definitions,
        network=module.network,
        input=", ".join(str(d) for d in network.input.dims),
        placement=network.placement.kind if network.placement else "",
        devices=network.placement.devices if network.placement else 1,
    )


def _support(name: str, network: Network) -> str:
    """The text of a class or function of templates/support/."""
    folder = resources.folder("templates") / "support"
    if (folder / f"{name}.py").exists():
        return (folder / f"{name}.py").read_text(encoding="utf-8").rstrip()
    every = [a.module for b in blocks_of(network.root) for a in applications(b.body) if isinstance(a.module, Layer)]
    functions = functions_of(blocks_of(network.root))
    inner = [b for f in functions if isinstance(f, Block) for b in blocks_of(f)]
    layers = [f for f in functions if isinstance(f, Layer)]
    layers += [a.module for b in inner for a in applications(b.body) if isinstance(a.module, Layer)]
    convolutions = [dict(layer.args) for layer in layers if layer.kind == "Conv"]
    biases = {args["bias"] is True for args in convolutions}
    text = (
        environment()
        .get_template(f"support/{name}.py.j2")
        .render(
            random=any(layer.kind in _RANDOM for layer in layers),
            groups=any(args["groups"] != 1 for args in convolutions),
            one_column=any(layer.kind == "DropPath" and layer.arg("one_column") for layer in every),
            biases="some" if len(biases) > 1 else "all" if biases == {True} else "",
        )
    )
    return text.rstrip()


_RANDOM = frozenset({"Dropout", "Survival", "Mask", "DropPath"})
"""Layers that draw numbers in training."""

_ABSTRACT = ("Iterator", "Sequence")


def _imports(support: tuple[str, ...]) -> tuple[str, ...]:
    """The lines that import what templates/support/ uses beside torch."""
    text = "\n".join(support)
    abstract = ", ".join(name for name in _ABSTRACT if f"{name}[" in text)
    lines = [f"from collections.abc import {abstract}"] if abstract else []
    return tuple([*lines, "from typing import Any"] if "Any" in text else lines)


def title(network: Network, before: int = 0) -> str:
    """The first line of a generated file: the spec, and what goes in and comes out."""
    output = f"{network.classes} logits" if network.classes else str(network.output)
    head = f"{network.spec}: {network.input} to {output}."
    return safe(head) if len(head) + before <= WIDTH - 3 else f"{safe(network.spec)}."


def provenance(network: Network) -> tuple[str, ...]:
    """Where model.py came from and what it holds."""
    cost = measure(network)
    texts = [network.doc, network.paper]
    docs = [wrapped(tuple(text.split("\n")), WIDTH) for text in texts if text]
    return (
        *(line for doc in docs for line in (*doc, "")),
        *_generated(network),
        "",
        f"    parameters     {cost.params:,}",
        f"    multiply-adds  {cost.macs:,} (convolutions and linear layers, one image)",
        f"    depth          {cost.depth} (convolutions and linear layers on the longest path)",
        *_marks(network),
    )


def _generated(network: Network) -> tuple[str, str]:
    # An absolute path would tell of the machine, and make equal specs give unequal files.
    name = network.source_name.replace("\\", "/")
    origin = name.rsplit("/", 1)[-1] if name.startswith("/") or ":" in name else name
    return (
        f"Generated by archdsl {__version__} from {safe(origin)}. Edit the spec, not this file.",
        "This file belongs to whoever wrote the spec, to use under any licence.",
    )


def _recipe(network: Network) -> tuple[str, ...]:
    """Whose recipe it is, and what the spec changes of it."""
    recipe = network.recipe
    if not recipe.name:
        return ()
    changed = f" Changed here: {spoken(recipe.changed, 'and')}." if recipe.changed else ""
    return ("", *wrapped((f"Recipe {recipe.name}: {recipe.source}{changed}",), WIDTH), "")


def _marks(network: Network) -> tuple[str, ...]:
    placed = [f"    placement      {network.placement}"] if network.placement else []
    return (*placed, f"    spec           {network.source_hash}", f"    checksum       {UNSIGNED}")


def wrapped(lines: tuple[str, ...], width: int) -> list[str]:
    """Documentation filled to a width; empty lines part paragraphs, and the first line leaves room for its quotes."""
    from textwrap import wrap

    out: list[str] = []
    for paragraph in "\n".join(lines).split("\n\n"):
        filled = wrap(safe(" ".join(paragraph.split())), width - 3, break_long_words=False, break_on_hyphens=False)
        out += [*([""] if out else []), *filled]
    return out


def safe(text: str) -> str:
    """Text from a spec as part of a docstring."""
    text = text.replace("\\", "\\\\").replace('"""', "'''")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _definition(definition: Class | Function) -> list[str]:
    match definition:
        case Class():
            head = [f"class {definition.name}({definition.base}):", *_doc(definition.doc, 4)]
            init = [*definition.signature, "        super().__init__()", *definition.init, ""]
            init = init if definition.signature else []
            forward = f"    def forward(self, x: Tensor) -> {definition.returns}:{definition.forward_comment}"
            blank = [""] if definition.doc else []
            return [*head, *blank, *init, forward, *definition.forward]
        case Function():
            return [*definition.signature, *_doc(definition.doc, 4), *definition.body]


def _doc(lines: tuple[str, ...], indent: int) -> list[str]:
    pad = " " * indent
    if not lines:
        return []
    text = wrapped(lines, WIDTH - indent)
    if not text:
        return []
    if text[0].startswith('"') or text[-1].endswith('"'):
        text = [line.replace('"', "'") for line in text]
    if len(text) == 1 and len(text[0]) + indent + 6 > WIDTH:
        text = wrapped(lines, WIDTH - indent - 6)  # no room for the quotes: two lines
    if len(text) == 1:
        return [f'{pad}"""{text[0]}"""']
    return [f'{pad}"""{text[0]}', *(f"{pad}{line}".rstrip() for line in text[1:]), f'{pad}"""']
