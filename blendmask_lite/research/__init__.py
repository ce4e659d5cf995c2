"""Experiments on bases and attentions: measured, optimised, knocked out and compared."""

# ruff: noqa: F403

from blendmask_lite.research.basis_scores import *
from blendmask_lite.research.knockout import *
from blendmask_lite.research.matching import *
from blendmask_lite.research.objects import *
from blendmask_lite.research.oracles import *
