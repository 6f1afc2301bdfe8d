"""Data sources, one file for each kind; `registry` is the way in."""
