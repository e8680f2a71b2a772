"""The IR and what is measured on it. Knows neither syntax nor PyTorch."""
