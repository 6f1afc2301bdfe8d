"""Hosts on one machine whose links have chosen rates, and a command on each: `tools/netlab`."""
