"""PyTorch programs that do the same as ours, to compare speed with."""
