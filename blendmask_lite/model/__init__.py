"""The network, one file a chapter of the paper."""
