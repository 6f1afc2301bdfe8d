"""Whole clusters in one process: the real protocol cores on the in-memory network, under a virtual clock."""
