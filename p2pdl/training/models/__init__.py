"""Models: the built-in ones, and those of the user's own functions; `registry` is the way in."""
