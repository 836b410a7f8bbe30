"""Views of the numbers: terminal, JSON, HTML. Nothing here computes anything about a model."""
