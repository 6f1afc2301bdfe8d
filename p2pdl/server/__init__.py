"""The server process: answers peers out of shared memory, without Keras or TensorFlow."""
