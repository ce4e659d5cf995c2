"""Backbones: image -> {c2, c3, c4, c5} at strides 4, 8, 16 and 32."""
