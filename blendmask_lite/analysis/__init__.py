"""What bases and attentions do: measured, improved by optimisation, knocked out, compared."""

from blendmask_lite.analysis.basis_scores import BasisScores, score_bases, untrained_scores
from blendmask_lite.analysis.best_attention import (
    BestAttention,
    BestBases,
    attention_limit,
    best_attention,
    best_bases,
)
from blendmask_lite.analysis.hard_cases import HardCase, find_hard_cases
from blendmask_lite.analysis.knockout import (
    KnockOuts,
    change_base,
    knock_out_bases,
    with_changed_base,
)
from blendmask_lite.analysis.matching import BaseMatching, compare_checkpoints, match_bases
from blendmask_lite.analysis.objects import TrueObjects, look_at_objects, true_objects
from blendmask_lite.analysis.oracle import OracleResults, oracle_swaps, score_oracles

__all__ = [
    "BaseMatching",
    "BasisScores",
    "BestAttention",
    "BestBases",
    "HardCase",
    "KnockOuts",
    "OracleResults",
    "TrueObjects",
    "attention_limit",
    "best_attention",
    "best_bases",
    "change_base",
    "compare_checkpoints",
    "find_hard_cases",
    "knock_out_bases",
    "look_at_objects",
    "match_bases",
    "oracle_swaps",
    "score_bases",
    "score_oracles",
    "true_objects",
    "untrained_scores",
    "with_changed_base",
]
