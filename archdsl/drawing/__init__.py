"""The picture of a network, as a paper prints it."""
