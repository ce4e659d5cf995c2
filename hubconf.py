"""Entry points for torch.hub: a model from a clone or from GitHub, without installing the package.

>>> model = torch.hub.load(".", "nano_shapes", source="local")  # in a clone
>>> model = torch.hub.load("OWNER/blendmask_lite", "blendmask", "R_50_3x")  # from GitHub
"""

# Modules, not packages: what loading a model needs.
dependencies = ["torch", "torchvision", "numpy", "safetensors", "platformdirs", "filelock"]


def blendmask(source, **settings):
    """A BlendMask from the name of a preset, without training, or with the weights of a checkpoint.

    Args:
        source: a name of `blendmask_lite.PRESETS`, such as "r50" (its weights are random); or what
            `BlendMask.from_pretrained` takes: a name of the authors' model zoo, such as "R_50_3x",
            a checkpoint file, a folder, or a repository of the Hugging Face Hub as OWNER/NAME.
        settings: for a preset, fields of its config to change, such as `num_classes=3`; otherwise
            further arguments of `BlendMask.from_pretrained`.

    Returns:
        The model in evaluation mode. `model.predict([image])[0]` finds the objects of an image,
        (3, H, W) RGB, uint8 or 0 to 1.
    """
    from dataclasses import replace

    from blendmask_lite import PRESETS, BlendMask
    from blendmask_lite.config import PRESET_INFERENCE

    if source in PRESETS:
        config = replace(PRESETS[source], **settings)
        return BlendMask(config, inference=PRESET_INFERENCE[source]).eval()
    return BlendMask.from_pretrained(source, **settings)


def nano_shapes():
    """The small model that comes with the package, trained on eight kinds of generated shapes."""
    from blendmask_lite import load_model, shipped_checkpoint

    return load_model(shipped_checkpoint())
