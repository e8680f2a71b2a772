class Split(nn.ModuleList):
    """The sum of parallel functions, which are divided evenly over devices.

    The input is sent to every device before any function runs, and each device returns
    one partial sum, so that copies and computation overlap.

    Abdi and Nahavandi, arXiv:1609.05672, section IV.D, for any number of devices.
    """

    def spread(self, devices: Sequence[str]) -> None:
        """Move each function to its device."""
        for i, function in enumerate(self):
            function.to(devices[i * len(devices) // len(self)])

    def forward(self, x: Tensor) -> Tensor:
        shares: dict[torch.device, list[nn.Module]] = {}
        for function in self:
            device = next(function.parameters(), x).device
            shares.setdefault(device, []).append(function)
        sent = {device: x.to(device, non_blocking=True) for device in shares}
        total: Tensor | None = None
        for device, functions in reversed(shares.items()):  # the distant ones first
            part = functions[0](sent[device])
            for function in functions[1:]:
                part = part + function(sent[device])
            part = part.to(x.device, non_blocking=True)
            total = part if total is None else part + total
        assert total is not None
        return total
