"""What a checkpoint holds beside weights and optimiser, whose it is, and whether it can be gone on from."""
