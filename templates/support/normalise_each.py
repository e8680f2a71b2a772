def normalise_each(norms: Sequence[Any], x: Tensor) -> Tensor:
    """Batch normalisations of one input, or each of its own share of the channels."""
    first = norms[0]
    if x.shape[1] == first.num_features:
        x = torch.cat([x] * len(norms), dim=1)
    means = [norm.get_buffer("running_mean") for norm in norms]
    variances = [norm.get_buffer("running_var") for norm in norms]
    statistics = torch.cat(means + variances)
    mean, variance = statistics.chunk(2)
    weight = torch.cat([norm.weight for norm in norms])
    bias = torch.cat([norm.bias for norm in norms])
    training, momentum, eps = first.training, first.momentum, first.eps
    if momentum is None:  # a mean over all batches, as update_bn takes it
        momentum = 1 / (1 + int(first.num_batches_tracked))
    x = F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    if training:  # every module keeps statistics of its own
        torch._foreach_copy_(means + variances, statistics.chunk(2 * len(norms)))
        torch._foreach_add_([n.get_buffer("num_batches_tracked") for n in norms], 1)
    return x
