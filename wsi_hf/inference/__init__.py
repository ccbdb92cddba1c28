"""A network on tiles, logits out: exact tiling, reading, memory."""
