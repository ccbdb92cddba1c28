"""Files in, pixels out."""
