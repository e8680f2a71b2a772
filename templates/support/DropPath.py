class DropPath(nn.Module):
    """The mean of the columns that end here.

    In training each is left out with probability `p`, but never all. With probability
    `one_column` a batch takes one column of the whole network: the one that
    `draw_column` has drawn, counted from the last, the deepest.

    Larsson, Maire and Shakhnarovich, arXiv:1605.07648, section 3.
    """

    def __init__(self, p: float, one_column: float = 0.0) -> None:
        super().__init__()
        self.p = p
        self.one_column = one_column
        self.chance: Tensor | None = None
        self.column: Tensor | None = None

    def weights(self, columns: int, device: torch.device) -> Tensor:
        """The share of each column in the mean."""
        position = torch.arange(columns, device=device)
        kept = torch.rand(columns, device=device) >= self.p
        spare = torch.randint(columns, (), device=device)
        kept = kept | (~kept.any() & (position == spare))
        if self.chance is not None and self.column is not None:
            alone = position == columns - 1 - self.column.to(device)
            whole = (self.chance.to(device) < self.one_column) & alone.any()
            kept = torch.where(whole, alone, kept)
        return kept / kept.sum()

    def forward(self, *columns: Tensor) -> Tensor:
        if not self.training:
            return torch.stack(columns).mean(0)
        weights = self.weights(len(columns), columns[0].device)
        weights = weights.to(columns[0].dtype)
        out = weights[0] * columns[0]
        for i in range(1, len(columns)):
            out = out + weights[i] * columns[i]
        return out


def draw_column(network: nn.Module, columns: int, device: torch.device) -> None:
    """Draw what all joins of a network share for one batch: a chance and a column."""
    chance = torch.rand((), device=device)
    column = torch.randint(columns, (), device=device)
    for module in network.modules():
        if isinstance(module, DropPath):
            module.chance, module.column = chance, column
