"""What helps against a loss that is not finite, case by case."""

from __future__ import annotations

from blendmask_lite.training.schedule import TrainConfig

__all__ = ["what_helps"]

SGD_RATE = 0.01 / 16  # per image: the paper's rate and batch (section 4)
USUAL_WARMUP = 1000  # iterations (section 4)
USUAL_CLIP = 5.0


def what_helps(iteration: int, config: TrainConfig, *, has_bad_boxes: bool = False) -> str:
    """Sentences with the options to try, the likeliest first.

    Args:
        iteration: in which it happened.
        config: of the training.
        has_bad_boxes: a true box of these images is not finite.
    """
    if has_bad_boxes:
        return "Some of the boxes themselves are not finite: check the data"
    advice = [_learning_rate(config)]
    if config.precision == "bfloat16":
        advice.append("--precision float32, because bfloat16 has 8 bits of precision only")
    if iteration < 2 * config.warmup_iterations or config.warmup_iterations < USUAL_WARMUP:
        longer = max(2 * config.warmup_iterations, USUAL_WARMUP)
        advice.append(f"a longer warm-up, --warmup-iterations {longer}")
    if config.clip_norm is None:
        advice.append(f"clipping of the gradient, --clip-norm {USUAL_CLIP:g}")
    return f"Try {'; or '.join(advice)}"


def _learning_rate(config: TrainConfig) -> str:
    images = f"{config.batch_size} image{'s' if config.batch_size > 1 else ''} a step"
    fitting = SGD_RATE * config.batch_size
    if config.optimizer == "sgd" and config.learning_rate > 1.01 * fitting:
        return (
            f"--learning-rate {fitting:g}, which is 0.01 for 16 images scaled to {images} "
            f"(it was {config.learning_rate:g})"
        )
    return f"--learning-rate {config.learning_rate / 2:g}, half of what it was with {images}"
