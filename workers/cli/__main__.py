"""``python -m workers.cli``, for the processes that start commands of ours."""

import sys

from workers.cli import main

sys.exit(main())
