"""``python -m workers.action``, the action's only step besides its installation."""

import sys

from workers.action.running import main

sys.exit(main())
