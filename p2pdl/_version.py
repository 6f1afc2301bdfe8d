"""The version of p2pdl, readable without importing anything else."""

VERSION = "0.1.0"
