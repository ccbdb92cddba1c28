"""Outlines of tumours, from the files of several programs."""
