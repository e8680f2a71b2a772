"""A version of a text in an editor, and what is known of it: worked out once, when it is first asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from archdsl import resources
from archdsl.base.diagnostics import ArchError
from archdsl.base.slug import slug
from archdsl.base.source import Source
from archdsl.driver import Examined, examine
from archdsl.editor.uses import Uses, uses_of
from archdsl.frontend import syntax
from archdsl.frontend.resolve import Global, Library, Module, Texts


@dataclass(frozen=True, eq=False)
class Document:
    """One version of a text."""

    source: Source
    folder: Path | None
    """Where its imports are looked for."""
    network: str
    """What a network without a name is called."""
    texts: Texts = field(default_factory=dict)
    """The other files that are open, as they stand in the editor."""

    @cached_property
    def examined(self) -> Examined:
        """Its networks, and what is wrong with it."""
        return examine(self.source, self.folder, self.network, self.texts)

    @cached_property
    def uses(self) -> Uses:
        """What the places of the text are in those of its networks that can be worked out."""
        return uses_of((c.network for c in self.examined.compiled), self.source.name)

    @cached_property
    def module(self) -> Module:
        """Its definitions and imports, but for the items that cannot be parsed."""
        try:
            return self._library.examined(self.source, self.folder)
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
        """The file that an import names."""
        try:
            file = self._library.imported(path, self.folder)
            return opened(self._library.source(file).text, file)
        except ArchError:
            return None

    @cached_property
    def _library(self) -> Library:
        return Library(self.texts)


def as_read(text: str) -> str:
    """A text of an editor as a file is read: lines end in one way, and there are no halves of characters."""
    return re.sub("[\ud800-\udfff]", "\ufffd", re.sub("\r\n?", "\n", text))


def opened(text: str, path: Path | None, name: str = "untitled", texts: Texts | None = None) -> Document:
    """The document of a text as it stands in an editor; `path` is where it is saved, or will be."""
    text = as_read(text)
    if path is None:
        document = Document(Source(name, text), None, slug(name), texts or {})
    else:
        in_library = path.resolve().parent == (resources.folder("specs") / "std").resolve()
        source = Source(f"std/{path.name}" if in_library else str(path), text, in_library)
        document = Document(source, path.parent, slug(path.stem), texts or {})
    document.source.position(0)  # finds its lines now: several threads may ask
    return document


def path_of(source: Source) -> Path:
    """The file of a source that was read from one."""
    return resources.folder("specs") / source.name if source.library else Path(source.name).resolve()
