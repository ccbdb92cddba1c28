"""Probability maps in, patches out."""
