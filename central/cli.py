"""`ronda central …`: the inventory checked, imported, rendered and run.

Law: exit 0 fine, 1 a check failed, 2 usage or a bad file. Each command is a module's own; imports happen where they are needed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

FINE, FAILED, USAGE = 0, 1, 2
INVENTORY = Path("inventory.yaml")


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code. ConfigError is the caller's to print."""
    args = _parser().parse_args(argv)
    return int(args.command(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ronda central", description="One inventory file renders the whole centre.")
    parser.add_subparsers(required=True, metavar="COMMAND")
    return parser
