"""A model and a slide in, all outputs out: maps, lesions, pictures, the pipeline."""
