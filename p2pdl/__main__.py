"""`python -m p2pdl`, the same as the command `p2pdl`."""

from __future__ import annotations

from p2pdl.cli import main

if __name__ == "__main__":
    main()
