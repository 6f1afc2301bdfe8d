"""The benchmark of p2pdl: every row is a ratio to a named reference that is measured beside it in the same run."""
