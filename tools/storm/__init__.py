"""Real nodes under a seeded storm of faults, and whether p2pdl keeps its promises; the command is `tools/chaos`."""
