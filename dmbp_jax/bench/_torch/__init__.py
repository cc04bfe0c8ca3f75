"""PyTorch programs that compute the same as this package, to compare speed with."""
