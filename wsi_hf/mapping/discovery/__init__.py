"""What the first patches are drawn from: tissue that malignant slides hold more of, found from slide labels alone."""
