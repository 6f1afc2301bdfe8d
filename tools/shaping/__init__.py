"""A rate and a latency for what a network device of a real machine sends: `tools/shape`."""
