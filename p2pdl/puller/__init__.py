"""The pulling end of an exchange: a thread that fetches a neighbour's weights while the trainer computes."""
