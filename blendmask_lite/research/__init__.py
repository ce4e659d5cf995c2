"""What bases and attentions do: measured, improved by optimisation, knocked out, compared."""

from __future__ import annotations

from blendmask_lite.research.basis_scores import BasisScores, score_bases, untrained_scores
from blendmask_lite.research.knockout import (
    KnockOuts,
    change_base,
    knock_out_bases,
    with_changed_base,
)
from blendmask_lite.research.matching import BaseMatching, compare_checkpoints, match_bases
from blendmask_lite.research.objects import (
    HardCase,
    TrueObjects,
    find_hard_cases,
    look_at_objects,
    true_objects,
)
from blendmask_lite.research.oracles import (
    BestAttention,
    BestBases,
    OracleResults,
    attention_limit,
    best_attention,
    best_bases,
    oracle_swaps,
    score_oracles,
)

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
