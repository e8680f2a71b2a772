def drop_each(dropouts: Sequence[Any], x: Tensor) -> Tensor:
    """Dropouts of one probability, each of its own share of the channels."""
    return F.dropout(x, dropouts[0].p, dropouts[0].training)
