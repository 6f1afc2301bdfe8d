"""The weight store: three versioned slots in shared memory between a node's trainer and its server."""
