"""What all experiments share: cases that are kept as soon as they are done, clusters to run, findings to write."""
