"""The paper's training process: patches from the newest maps, the beta-divergence, checkpoints with their maps."""
