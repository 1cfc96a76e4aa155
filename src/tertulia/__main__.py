"""`python -m tertulia` is the `tertulia` command."""

from tertulia.cli import main

if __name__ == "__main__":
    main()
