"""Composition of a node: the supervisor, which starts and watches, and what its trainer process does."""
