"""Tensors in, tensors out, and what is saved and loaded with them. Knows no slide."""
