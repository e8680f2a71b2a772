"""A diagram as a graph for other tools: Mermaid, for pages that render it, and Graphviz's dot."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from archdsl.drawing.diagram import Box, Branches, Diagram, Part, Repeated, Series


@dataclass(slots=True)
class _Group:
    """A frame around nodes, each a name and a text, and around other groups."""

    title: str
    nodes: list[tuple[str, str] | _Group] = field(default_factory=list)


@dataclass(slots=True)
class _Graph:
    """Nodes in groups, and edges between them."""

    groups: list[_Group] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    made: int = 0

    def group(self, title: str) -> _Group:
        self.groups.append(_Group(title))
        return self.groups[-1]

    def node(self, text: str, group: _Group | None = None) -> str:
        name = f"n{self.made}"
        self.made += 1
        (group or self.groups[-1]).nodes.append((name, text))
        return name

    def part(self, part: Part, before: list[str], times: str = "") -> list[str]:
        """Add a part after some nodes; the nodes at its end."""
        match part:
            case Box():
                name = self.node(f"{part.text}{times}")
                self.edges += [(b, name) for b in before]
                return [name]
            case Series():
                for inner in part.parts:
                    before = self.part(inner, before, times)
                return before
            case Repeated(part=Box()):
                return self.part(part.part, before, f"{times} x{part.count}")
            case Repeated():
                outside = self.groups[-1]
                self.groups[-1] = _Group(f"x{part.count}")
                ends = self.part(part.part, before, times)
                outside.nodes.append(self.groups[-1])
                self.groups[-1] = outside
                return ends
            case Branches():
                ends = [end for inner in part.parts for end in self.part(inner, before, times)]
                ends = list(dict.fromkeys(ends))
                if not part.symbol:
                    return ends
                name = self.node(part.symbol)
                self.edges += [(end, name) for end in ends]
                return [name]


def _graph(diagram: Diagram) -> _Graph:
    graph = _Graph()
    if diagram.chained:
        _overview(graph, diagram)
    for panel in diagram.panels:
        graph.group(panel.title)
        graph.part(panel.part, [graph.node("input")])
    return graph


def _overview(graph: _Graph, diagram: Diagram) -> None:
    """The network: stages are groups of what they hold, and auxiliary outputs stand aside."""
    whole = graph.group(diagram.title)
    stage, last, aside = whole, "", ""
    for line, following in zip(diagram.overview, [*diagram.overview[1:], None], strict=True):
        details = ", ".join(text for text in (line.shape, line.params) if text)
        text = f"{line.text} ({details})"
        if line.kind == "head":
            name = graph.node(text, whole)
            graph.edges += [(aside or last, name)] if aside or last else []
            aside = name
            continue
        if line.level == 1:
            stage = whole
            if following and following.level > 1 and following.kind != "head":
                stage = _Group(text)
                whole.nodes.append(stage)
                continue
        name = graph.node(text, stage)
        graph.edges += [(last, name)] if last else []
        last, aside = name, ""


def mermaid(diagram: Diagram) -> str:
    """A flowchart in Mermaid's language: the network, and each block in a group of its own."""
    graph = _graph(diagram)
    lines = ["flowchart TD"]
    numbers = count()

    def write(group: _Group, pad: str) -> None:
        lines.append(f'{pad}subgraph g{next(numbers)}["{_quoted(group.title)}"]')
        for node in group.nodes:
            if isinstance(node, _Group):
                write(node, f"{pad}  ")
            else:
                lines.append(f'{pad}  {node[0]}["{_quoted(node[1])}"]')
        lines.append(f"{pad}end")

    for group in graph.groups:
        write(group, "  ")
    lines += [f"  {a} --> {b}" for a, b in graph.edges]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def dot(diagram: Diagram) -> str:
    """The same for Graphviz."""
    graph = _graph(diagram)
    lines = ["digraph network {", "  node [shape=box, style=rounded];"]
    numbers = count()

    def write(group: _Group, pad: str) -> None:
        lines.append(f"{pad}subgraph cluster_{next(numbers)} {{")
        lines.append(f"{pad}  label={_string(group.title)};")
        for node in group.nodes:
            if isinstance(node, _Group):
                write(node, f"{pad}  ")
            else:
                lines.append(f"{pad}  {node[0]} [label={_string(node[1])}];")
        lines.append(f"{pad}}}")

    for group in graph.groups:
        write(group, "  ")
    lines += [f"  {a} -> {b};" for a, b in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
