def convolve_each(convs: Sequence[Any], x: Tensor) -> Tensor:
    """Convolutions of one input, or each of its own share of the channels."""
    first, groups = convs[0], convs[0].groups
    if x.shape[1] == first.in_channels and groups > 1:
        x = torch.cat([x] * len(convs), dim=1)
    if x.shape[1] > first.in_channels:
        groups = groups * len(convs)
    weight = torch.cat([conv.weight for conv in convs])
    biases = [conv.bias for conv in convs if conv.bias is not None]
    bias = torch.cat(biases) if biases else None
    stride, padding, dilation = first.stride, first.padding, first.dilation
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
