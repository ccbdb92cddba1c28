"""Folders and tables in, lists of labelled slides out."""
