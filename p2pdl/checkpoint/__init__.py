"""Checkpoints: a header and named arrays in one file that is either whole or not there."""
