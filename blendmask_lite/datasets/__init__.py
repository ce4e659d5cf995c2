"""Data sets: the generated shapes, COCO folders, and what happens to a sample before training."""
