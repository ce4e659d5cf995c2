"""Evaluation: average precision of boxes and masks."""
