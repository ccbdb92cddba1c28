"""The paper's mapping process: up-to-date probability maps of slides, beside the training."""
