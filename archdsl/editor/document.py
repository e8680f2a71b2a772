"""A version of a text in an editor, and what is known of it: worked out once, when it is first asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from archdsl import resources
from archdsl.base import limits
from archdsl.base.diagnostics import ArchError
from archdsl.base.slug import slug
from archdsl.base.source import Source
from archdsl.driver import Examined, examine
from archdsl.editor.uses import Uses, uses_of
from archdsl.frontend import syntax
from archdsl.frontend.grammar import parse_text
from archdsl.frontend.parser import parse, parts
from archdsl.frontend.resolve import Global, Library, Module, read


@dataclass(frozen=True, eq=False)
class Document:
    """One version of a text."""

    source: Source
    folder: Path | None
    """Where its imports are looked for."""
    network: str
    """What a network without a name is called."""

    @cached_property
    def examined(self) -> Examined:
        """Its networks, and what is wrong with it."""
        return examine(self.source, self.folder, self.network)

    @cached_property
    def uses(self) -> Uses:
        """What the places of the text are in its networks; nothing as long as it is wrong."""
        return uses_of((c.network for c in self.examined.compiled), self.source.name)

    @cached_property
    def module(self) -> Module:
        """Its definitions and imports, but for the items that cannot be parsed."""
        try:
            return self._library.examined(mended(self.source), self.folder)
        except ArchError:
            return Module(syntax.File(self.source, (), (), ""))

    @property
    def items(self) -> tuple[syntax.Item, ...]:
        """The items that can be parsed."""
        return self.module.file.items

    def find(self, name: str) -> Global | None:
        """What a name means at the top level."""
        try:
            found = self._library.find(name, self.module)
        except ArchError:
            return None
        return found[0] if found else None

    def known(self) -> Iterator[tuple[str, Global]]:
        """Every name that is visible at the top level, with its meaning."""
        for name in dict.fromkeys(self._library.known(self.module)):
            found = self.find(name)
            if found is not None:
                yield name, found

    def imported(self, path: str) -> Document | None:
        """The file that an import names, as it is saved."""
        root = (resources.folder("specs") if path.startswith("std/") else self.folder or Path.cwd()).resolve()
        try:
            file = (root / path).resolve()
            is_there = file.is_relative_to(root) and file.is_file()
            return opened(read(file, path).text, file) if is_there else None
        except (ArchError, OSError, ValueError):
            return None

    @cached_property
    def _library(self) -> Library:
        return Library()


def opened(text: str, path: Path | None, name: str = "untitled") -> Document:
    """The document of a text as it stands in an editor; `path` is where it is saved, or will be."""
    # As a file is read: lines end in one way, and there are no halves of characters.
    text = re.sub("[\ud800-\udfff]", "\ufffd", re.sub("\r\n?", "\n", text))
    if path is None:
        document = Document(Source(name, text), None, slug(name))
    else:
        in_library = path.resolve().parent == (resources.folder("specs") / "std").resolve()
        source = Source(f"std/{path.name}" if in_library else str(path), text, in_library)
        document = Document(source, path.parent, slug(path.stem))
    document.source.position(0)  # finds its lines now: several threads may ask
    return document


def path_of(source: Source) -> Path:
    """The file of a source that was read from one."""
    return resources.folder("specs") / source.name if source.library else Path(source.name).resolve()


def mended(source: Source) -> Source:
    """The source with spaces for every item that cannot be parsed, so that all else stays where it is.

    Of one that is too long to be a spec nothing is left.
    """
    if len(source.text) > limits.SOURCE:
        return Source(source.name, "", source.library)
    try:
        parse(source)
    except ArchError:
        text = "".join(part if _is_right(part) else _blank(part) for _, part in parts(source))
        return Source(source.name, text, source.library)
    return source


def _is_right(part: str) -> bool:
    try:
        parse_text(Source("", part))
    except ArchError:
        return False
    return True


def _blank(part: str) -> str:
    return re.sub(r"[^\n]", " ", part)
