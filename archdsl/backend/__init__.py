"""From the IR to PyTorch: generalise, spell, print. Sees `base` and `core` alone."""
