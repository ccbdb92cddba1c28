"""The two processes: training and mapping."""
