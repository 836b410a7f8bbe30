"""Evidence that a rewrite cannot be silently wrong. Not part of the package that is installed."""

import os

# What is attacked is the same on every machine: forms are chosen by rule and not by time.
os.environ.setdefault("FLATCONV_TUNE", "0")
