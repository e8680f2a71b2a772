"""Names for networks that have none."""

from __future__ import annotations

import re


def slug(text: str) -> str:
    """A name for a network after its spec.

    >>> slug("Net(28, 10, dropout=0.3)"), slug("B(3,3)x[k=4]")
    ('net_28_10_dropout_0_3', 'b_3_3_x_k_4')
    """
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60].rstrip("_") or "network"
    return f"net_{name}" if name[0].isdigit() else name
