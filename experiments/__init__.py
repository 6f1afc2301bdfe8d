"""One file for each claim; `README.md` lists them with their commands and results."""
