"""What `make` does, where there is no make: `python start.py lab`; `python start.py` has a list.

Chapter: set-up. Needs nothing but Python. The code is in `tools/commands.py`.
"""

import sys

# A Python that is too old has to read as far as here, so there is neither an f-string above this
# line nor below it.
if sys.version_info < (3, 11):
    sys.exit("start.py: this is Python %d.%d, 3.11 is the oldest that works" % sys.version_info[:2])

from os.path import abspath, dirname, join

sys.path.insert(0, join(dirname(abspath(__file__)), "tools"))
from commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
