"""`python -m finegrid` is the same as `finegrid`."""

from finegrid.cli import main

if __name__ == "__main__":
    main()
