"""Moving frames between nodes: ZeroMQ for real, an in-memory network for tests and simulation."""
