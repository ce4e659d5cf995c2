"""The network, one file per chapter of the course."""
