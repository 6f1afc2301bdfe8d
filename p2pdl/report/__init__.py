"""What runs have left, read back: tables, pictures, and one page that needs nothing else."""
