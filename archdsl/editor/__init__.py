"""The language server: what an editor shows of a spec while it is written.

Every feature is a function of a `Document` and a place in it; `server` alone speaks the protocol.
"""
