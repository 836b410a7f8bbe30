"""The corpus of small models, by what they are made of."""
