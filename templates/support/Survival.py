class Survival(nn.Module):
    """Keeps its input with a probability, by which evaluation scales instead.

    One draw is for a whole batch: stochastic depth drops a residual function.

    Huang, Sun, Liu, Sedra and Weinberger, arXiv:1603.09382, equations 2 and 5.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.p * x
        return x * (torch.rand((), device=x.device) < self.p)
