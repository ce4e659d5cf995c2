"""Data sets: the generated shapes, COCO folders, and the transforms of training samples."""
