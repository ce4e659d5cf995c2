"""`python -m blendmask_lite` is `blendmask-lite`."""

import sys

from blendmask_lite.cli import main

sys.exit(main())
