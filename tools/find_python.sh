#!/bin/sh
# Prints the interpreter to build .venv with, or says in one line that there is none.
# Chapter: set-up. PYTHON=/path/to/python overrides the search.
is_new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

if [ -n "$PYTHON" ]; then
    if "$PYTHON" -c "$is_new_enough" 2>/dev/null; then
        echo "$PYTHON"
        exit 0
    fi
    echo "make: PYTHON=$PYTHON is not a working Python 3.11 or newer." >&2
    exit 1
fi

for candidate in python3 python python3.13 python3.12 python3.14 python3.11; do
    # Run it, do not only look for it: version managers leave names that start nothing.
    if "$candidate" -c "$is_new_enough" 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done
echo "make: no Python 3.11 or newer found: install one, or name it with PYTHON=/path/to/python." >&2
exit 1
