"""Three implementations of COCO's evaluation behind one function: dictionaries in, 12 numbers out.

pycocotools is the reference. Each reads the ground truth and the results as the evaluation of this
project has them: in memory, masks as compressed run lengths.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import faster_coco_eval
import hotcoco
import pycocotools.coco
import pycocotools.cocoeval

__all__ = ["EVALUATORS", "Evaluator", "results_of_kind"]

Results = list[dict[str, Any]]
Evaluator = Callable[[dict[str, Any], Results, str], Sequence[float]]


def results_of_kind(results: Results, kind: str) -> Results:
    """Without the boxes or without the masks: an area is to be that of what is evaluated."""
    dropped = "bbox" if kind == "segm" else "segmentation"
    return [{name: v for name, v in entry.items() if name != dropped} for entry in results]


def with_pycocotools(truth: dict[str, Any], results: Results, kind: str) -> Sequence[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        true = pycocotools.coco.COCO()
        true.dataset = {"info": {}, **truth}
        true.createIndex()
        evaluation = pycocotools.cocoeval.COCOeval(true, true.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def with_faster_coco_eval(truth: dict[str, Any], results: Results, kind: str) -> Sequence[float]:
    true = faster_coco_eval.COCO({"info": {}, **truth})
    found = true.loadRes(results)
    evaluation = faster_coco_eval.COCOeval_faster(true, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[:12]


def with_hotcoco(truth: dict[str, Any], results: Results, kind: str) -> Sequence[float]:
    true = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(true, true.load_res(results), kind)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.run()
    return evaluation.stats


EVALUATORS: dict[str, Evaluator] = {
    "pycocotools": with_pycocotools,
    "faster-coco-eval": with_faster_coco_eval,
    "hotcoco": with_hotcoco,
}
