class Split(nn.ModuleList):
    """The sum of parallel functions, which are divided evenly over devices.

    The input is sent to every device before any function runs, and each device returns
    one partial sum, so that copies and computation overlap.

    Abdi and Nahavandi, arXiv:1609.05672, section IV.D, for any number of devices.
    """

    count = 1
    """Devices."""

    def spread(self, devices: Sequence[str]) -> None:
        """Move each function to its device."""
        self.count = len(devices)
        for device, functions in zip(devices, self.shares()):
            for function in functions:
                function.to(device)

    def shares(self) -> list[list[nn.Module]]:
        """The functions of each device, in order."""
        n = self.count
        place = [i * n // len(self) for i in range(len(self))]
        return [[f for f, p in zip(self, place) if p == part] for part in range(n)]

    def forward(self, x: Tensor) -> Tensor:
        shares = self.shares()
        homes = [next((p.device for p in f[0].parameters()), x.device) for f in shares]
        sent = [x.to(home, non_blocking=True) for home in homes]
        parts: list[Tensor] = []
        for there, functions in zip(reversed(sent), reversed(shares)):
            part = functions[0](there)  # the distant ones first: they run meanwhile
            for function in functions[1:]:
                part = part + function(there)
            parts.append(part)
        total = parts.pop()
        for part in parts:
            total = total + part.to(x.device, non_blocking=True)
        return total
