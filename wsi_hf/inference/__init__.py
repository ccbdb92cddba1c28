"""A model and a slide in, a probability map out."""
