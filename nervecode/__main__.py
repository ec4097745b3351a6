"""`python -m nervecode`."""

from nervecode.cli.main import main

if __name__ == "__main__":
    main()
