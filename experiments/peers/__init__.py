"""TensorFlow's own ways to train on several machines, run as a user would: what p2pdl is compared with.

Every task is a process of its own; `__main__` is the command.
"""
