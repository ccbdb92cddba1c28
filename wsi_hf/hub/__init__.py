"""A run's folder in, a repository on the Hub out."""
