"""Tensors in, tensors out. Knows no slide and no file."""
