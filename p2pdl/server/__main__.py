"""`python -m p2pdl.server SETTINGS`: started by the supervisor, never by hand."""

import sys

from p2pdl.server.process import ServerSettings, run

if __name__ == "__main__":
    sys.exit(run(ServerSettings.from_argument(sys.argv[1])))
