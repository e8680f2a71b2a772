class Mask(nn.Module):
    """Keeps each element with a probability, by which evaluation scales instead.

    With `stochastic` set, evaluation draws masks too: the mean over several runs is
    then the prediction. Singh, Hoiem and Forsyth, arXiv:1605.06465, section 3.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep
        self.stochastic = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training or self.stochastic):
            return self.keep * x
        return x * (torch.rand_like(x) < self.keep)
