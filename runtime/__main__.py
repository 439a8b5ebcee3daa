"""`python -m runtime`: the command line."""

from runtime.cli import main

main()
