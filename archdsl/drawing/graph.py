"""A diagram as a graph for other tools: Mermaid, for pages that render it, and Graphviz's dot."""

from __future__ import annotations

from dataclasses import dataclass, field

from archdsl.drawing.diagram import Box, Branches, Diagram, Part, Repeated, Series


@dataclass(slots=True)
class _Graph:
    """Nodes in groups, and edges between them."""

    groups: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    """Title, and (name, text) of the nodes in it."""
    edges: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0

    def node(self, text: str) -> str:
        name = f"n{self.count}"
        self.count += 1
        self.groups[-1][1].append((name, text))
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
            case Repeated():
                return self.part(part.part, before, f"{times} x{part.count}")
            case Branches():
                ends = [end for inner in part.parts for end in self.part(inner, before, times)]
                ends = list(dict.fromkeys(ends))
                if not part.symbol:
                    return ends
                name = self.node(part.symbol)
                self.edges += [(end, name) for end in ends]
                return [name]


def _graph(diagram: Diagram) -> _Graph:
    graph = _Graph([(diagram.title, [])])
    last: list[str] = []
    for line in diagram.overview:
        details = ", ".join(text for text in (line.shape, line.params) if text)
        name = graph.node(f"{line.text} ({details})")
        graph.edges += [(b, name) for b in last]
        last = [name]
    for panel in diagram.panels:
        graph.groups.append((panel.title, []))
        graph.part(panel.part, [graph.node("input")])
    return graph


def mermaid(diagram: Diagram) -> str:
    """A flowchart in Mermaid's language: the network, and each block in a group of its own."""
    graph = _graph(diagram)
    lines = ["flowchart TD"]
    for i, (title, nodes) in enumerate(graph.groups):
        lines.append(f'  subgraph g{i}["{_quoted(title)}"]')
        lines += [f'    {name}["{_quoted(text)}"]' for name, text in nodes]
        lines.append("  end")
    lines += [f"  {a} --> {b}" for a, b in graph.edges]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def dot(diagram: Diagram) -> str:
    """The same for Graphviz."""
    graph = _graph(diagram)
    lines = ["digraph network {", "  node [shape=box, style=rounded];"]
    for i, (title, nodes) in enumerate(graph.groups):
        lines.append(f"  subgraph cluster_{i} {{")
        lines.append(f"    label={_string(title)};")
        lines += [f"    {name} [label={_string(text)}];" for name, text in nodes]
        lines.append("  }")
    lines += [f"  {a} -> {b};" for a, b in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
