"""The language server protocol, over standard input and output: messages in, what the features say out."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from archdsl.base.diagnostics import ArchError, Label
from archdsl.base.source import Source, Span
from archdsl.base.version import __version__
from archdsl.editor.completion import Completion, Kind, completions
from archdsl.editor.definition import definition
from archdsl.editor.diagnostics import Problem, problems
from archdsl.editor.document import Document, as_read, opened, path_of
from archdsl.editor.hints import Hint, hints
from archdsl.editor.hover import hover
from archdsl.editor.positions import Encoding, Position, offset_of, position_of
from archdsl.frontend.formatter import formatted
from archdsl.frontend.resolve import Texts

_Placed: TypeAlias = types.HoverParams | types.CompletionParams | types.DefinitionParams

Params = TypeVar("Params")
Result = TypeVar("Result")

_KINDS: dict[Kind, types.CompletionItemKind] = {
    "argument": types.CompletionItemKind.Property,
    "choice": types.CompletionItemKind.EnumMember,
    "local": types.CompletionItemKind.Variable,
    "block": types.CompletionItemKind.Class,
    "network": types.CompletionItemKind.Module,
    "layer": types.CompletionItemKind.Function,
    "data": types.CompletionItemKind.Constant,
    "recipe": types.CompletionItemKind.Struct,
    "keyword": types.CompletionItemKind.Keyword,
    "setting": types.CompletionItemKind.Property,
}

_STACK = 256 * 1024 * 1024
"""Bytes of address space for the thread that reads specs, which may be deeply nested."""


class Server:
    """Answers a client. One thread does all the work, so that the connection never waits for it."""

    def __init__(self) -> None:
        # Whole texts are sent: they are short, and what counts as a line is for `Document` to say.
        self.connection = LanguageServer(
            "archdsl", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full
        )
        self._documents: dict[str, Document] = {}
        self._status = 1
        threading.stack_size(_STACK)
        self._worker = ThreadPoolExecutor(1)
        self._worker.submit(int).result()
        threading.stack_size(0)
        feature = self.connection.feature
        feature(types.TEXT_DOCUMENT_DID_OPEN)(self._guarded(self._check))
        feature(types.TEXT_DOCUMENT_DID_CHANGE)(self._guarded(self._check))
        feature(types.TEXT_DOCUMENT_DID_SAVE)(self._guarded(self._check_all))
        feature(types.SHUTDOWN)(self._guarded(self._leave))
        feature(types.INITIALIZED)(self._guarded(self._watch))
        feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)(self._guarded(self._check_all))
        feature(types.TEXT_DOCUMENT_DID_CLOSE)(self._guarded(self._close))
        feature(types.TEXT_DOCUMENT_HOVER)(self._guarded(self._hover))
        feature(types.TEXT_DOCUMENT_INLAY_HINT)(self._guarded(self._hints))
        options = types.CompletionOptions(trigger_characters=["(", ",", "=", "."])
        feature(types.TEXT_DOCUMENT_COMPLETION, options)(self._guarded(self._complete))
        feature(types.TEXT_DOCUMENT_DEFINITION)(self._guarded(self._definition))
        feature(types.TEXT_DOCUMENT_FORMATTING)(self._guarded(self._format))

    def run(self) -> int:
        """Serve one client until it leaves; the exit status, which is 1 if it does so without a word."""
        try:
            self.connection.start_io()
        finally:
            self._worker.shutdown(wait=False, cancel_futures=True)
        return self._status

    async def _leave(self, params: None) -> None:
        self._status = 0

    def _guarded(self, handler: Callable[[Params], Awaitable[Result]]) -> Callable[[Params], Awaitable[Result | None]]:
        """The handler; what goes wrong in it is logged, and answers nothing."""

        async def answer(params: Params) -> Result | None:
            try:
                return await handler(params)
            except Exception:
                log = types.LogMessageParams(types.MessageType.Error, traceback.format_exc())
                self.connection.window_log_message(log)
                return None

        return answer

    async def _work(self, task: Callable[[], Result]) -> Result:
        """The result of a task; tasks are done one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, task)

    # ---- documents

    def _document(self, uri: str) -> Document:
        """The document as it stands in the editor."""
        text = self.connection.workspace.get_text_document(uri).source
        path = to_fs_path(uri)
        fresh = opened(text, Path(path) if path else None, uri, self._others(uri))
        known = self._documents.get(uri)
        if known is None or known.source.text != fresh.source.text or known.texts != fresh.texts:
            self._documents[uri] = known = fresh
        return known

    def _others(self, uri: str) -> Texts:
        """The texts of the other files that are open."""
        open_ = {d.uri: d.source for d in self.connection.workspace.text_documents.values() if d.uri != uri}
        return {Path(path).resolve(): as_read(text) for other, text in open_.items() if (path := to_fs_path(other))}

    @property
    def _encoding(self) -> Encoding:
        chosen = self.connection.workspace.position_encoding
        return cast(Encoding, getattr(chosen, "value", chosen))

    def _position(self, source: Source, offset: int) -> types.Position:
        found = position_of(source, offset, self._encoding)
        return types.Position(found.line, found.character)

    def _range(self, source: Source, start: int, end: int) -> types.Range:
        return types.Range(self._position(source, start), self._position(source, end))

    def _location(self, uri: str, document: Document, span: Span) -> types.Location:
        """Where a span is: in the document of the URI, or in another file."""
        own = span.source.name == document.source.name
        target = uri if own else path_of(span.source).as_uri()
        return types.Location(target, self._range(span.source, span.start, span.end))

    def _at(self, params: _Placed) -> tuple[Document, int]:
        """The document and the offset that a request speaks of."""
        document = self._document(params.text_document.uri)
        place = Position(params.position.line, params.position.character)
        return document, offset_of(document.source, place, self._encoding)

    # ---- diagnostics

    async def _check(self, params: types.DidOpenTextDocumentParams | types.DidChangeTextDocumentParams) -> None:
        await self._publish(params.text_document.uri)
        await self._check_others(params.text_document.uri)

    async def _check_others(self, uri: str) -> None:
        """Check what may import a file that is another now."""
        for other in self.connection.workspace.text_documents.values():
            if other.uri != uri and re.search(r'^from\s*"', other.source, re.MULTILINE):
                await self._publish(other.uri)

    async def _check_all(self, params: types.DidSaveTextDocumentParams | types.DidChangeWatchedFilesParams) -> None:
        """A file that was saved, or changed by somebody else, may be imported by those that are open."""
        self._documents.clear()
        for uri in [d.uri for d in self.connection.workspace.text_documents.values()]:
            await self._publish(uri)

    async def _close(self, params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        self._documents.pop(uri, None)
        self.connection.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
        await self._check_others(uri)

    async def _watch(self, params: types.InitializedParams) -> None:
        """Ask to be told of files that change on disk."""
        workspace = self.connection.client_capabilities.workspace
        watching = workspace.did_change_watched_files if workspace else None
        if watching and watching.dynamic_registration:
            options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher("**/*.arch")])
            method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
            wanted = types.RegistrationParams([types.Registration("watch", method, options)])
            await self.connection.client_register_capability_async(wanted)

    async def _publish(self, uri: str) -> None:
        """Send what is wrong with a document, unless it has changed by then."""
        document = self._document(uri)

        def found() -> list[Problem]:
            return problems(document) if self._documents.get(uri) is document else []

        listed = await self._work(found)
        if self._documents.get(uri) is document:
            shown = [self._diagnostic(uri, document, p) for p in listed]
            self.connection.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, shown))

    def _diagnostic(self, uri: str, document: Document, problem: Problem) -> types.Diagnostic:
        def related(label: Label) -> types.DiagnosticRelatedInformation:
            return types.DiagnosticRelatedInformation(self._location(uri, document, label.span), label.text)

        return types.Diagnostic(
            self._range(document.source, problem.start, problem.end),
            problem.message,
            severity=types.DiagnosticSeverity.Error,
            code=problem.code,
            source="archdsl",
            related_information=[related(label) for label in problem.related],
        )

    # ---- requests

    async def _hover(self, params: types.HoverParams) -> types.Hover | None:
        document, offset = self._at(params)
        found = await self._work(partial(hover, document, offset))
        if found is None:
            return None
        content = types.MarkupContent(types.MarkupKind.Markdown, found.markdown)
        return types.Hover(content, self._range(document.source, found.start, found.end))

    async def _hints(self, params: types.InlayHintParams) -> list[types.InlayHint]:
        document = self._document(params.text_document.uri)
        first, last = params.range.start.line, params.range.end.line
        listed = await self._work(partial(hints, document))

        def shown(hint: Hint) -> types.InlayHint:
            return types.InlayHint(self._position(document.source, hint.offset), hint.text, padding_left=True)

        return [shown(hint) for hint in listed if first <= hint.line - 1 <= last]

    async def _complete(self, params: types.CompletionParams) -> list[types.CompletionItem]:
        document, offset = self._at(params)
        listed = await self._work(partial(completions, document, offset))

        def shown(found: Completion) -> types.CompletionItem:
            about = types.MarkupContent(types.MarkupKind.Markdown, found.documentation) if found.documentation else None
            order = f"{found.rank}{found.text}"
            return types.CompletionItem(
                found.text, kind=_KINDS[found.kind], detail=found.detail or None, documentation=about, sort_text=order
            )

        return [shown(found) for found in listed]

    async def _definition(self, params: types.DefinitionParams) -> types.Location | None:
        document, offset = self._at(params)
        span = await self._work(partial(definition, document, offset))
        return self._location(params.text_document.uri, document, span) if span else None

    async def _format(self, params: types.DocumentFormattingParams) -> list[types.TextEdit]:
        source = self._document(params.text_document.uri).source
        text = await self._work(partial(reformatted, source))
        if text is None or text == source.text:
            return []
        return [types.TextEdit(self._range(source, 0, len(source.text)), text)]


def reformatted(source: Source) -> str | None:
    """The canonical text of a source, or None where it is wrong."""
    try:
        return formatted(source)
    except ArchError:
        return None


def main() -> None:
    """Serve the client at standard input and output."""
    gc.enable()  # the command line does without, and a server stays
    sys.exit(Server().run())


if __name__ == "__main__":
    main()
