"""Evidence that a rewrite cannot be silently wrong. Not part of the package that is installed."""
