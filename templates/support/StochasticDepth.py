class StochasticDepth(nn.Module):
    """Drops its input for a whole batch, and scales it by its survival in evaluation.

    Huang, Sun, Liu, Sedra and Weinberger, arXiv:1603.09382, equations 2 and 5.
    """

    def __init__(self, survival: float) -> None:
        super().__init__()
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.survival * x
        return x * (torch.rand((), device=x.device) < self.survival)
