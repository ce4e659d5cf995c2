"""Training: targets, losses, schedule and the loop."""
