class Split(nn.ModuleList):
    """The sum of parallel functions, which are divided evenly over devices.

    The input is sent to every device before any function runs, and each device returns
    one partial sum, so that copies and computation overlap.

    Abdi and Nahavandi, arXiv:1609.05672, section IV.D, for any number of devices.
    """

    devices: Sequence[str] = ()

    def spread(self, devices: Sequence[str]) -> None:
        """Move each function to its device."""
        self.devices = devices
        for device, functions in zip(devices, self.shares(len(devices))):
            for function in functions:
                function.to(device)

    def shares(self, count: int) -> list[list[nn.Module]]:
        """The functions in as many parts, in order."""
        place = [i * count // len(self) for i in range(len(self))]
        return [[f for f, n in zip(self, place) if n == part] for part in range(count)]

    def forward(self, x: Tensor) -> Tensor:
        sent = [x.to(device, non_blocking=True) for device in self.devices] or [x]
        parts: list[Tensor] = []
        for there, functions in zip(reversed(sent), reversed(self.shares(len(sent)))):
            part = functions[0](there)  # the distant ones first: they run meanwhile
            for function in functions[1:]:
                part = part + function(there)
            parts.append(part)
        total = parts.pop()
        for part in parts:
            total = total + part.to(x.device, non_blocking=True)
        return total
