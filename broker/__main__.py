"""`python -m broker` is `fed`."""

from broker.cli.main import main

main()
