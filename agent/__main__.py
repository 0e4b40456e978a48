"""`python -m agent` is the `ronda` command."""

import sys

from agent.cli import main

sys.exit(main())
