"""Run `ltx` as `python -m ltxcore`, for launchers that expect a module."""

from ltxcore.cli.main import main

if __name__ == "__main__":
    main()
