"""Maps and annotations in, numbers out."""
