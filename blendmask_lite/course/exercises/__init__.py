"""The exercises, one file per chapter: `chNN.py` with a tuple `EXERCISES`."""
