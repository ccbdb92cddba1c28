"""Labelled slides in, an operating point out: what turns a ranking into a decision. Not in the paper."""
