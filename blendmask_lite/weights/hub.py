"""Models by name or folder, from the Hugging Face Hub and onto it.

`BlendMask.from_pretrained`, `save_pretrained` and `push_to_hub` use it. A folder, local or on the
Hub, has three files: the checkpoint, which is the only one that is read; its config as JSON, for
people and for other programs; and a model card.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from blendmask_lite.config import PRESETS
from blendmask_lite.files import SHIPPED_MODELS, find_checkpoint, write_atomically
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.terminal import counted, first_line, listed, printable
from blendmask_lite.web import DownloadError, is_offline
from blendmask_lite.weights.adelaidet import load_adelaidet
from blendmask_lite.weights.checkpoint import Checkpoint, load_model, plain_content, save_model
from blendmask_lite.weights.tensors import is_safetensors
from blendmask_lite.weights.zoo import PUBLISHED, find_published

__all__ = ["load_pretrained", "push_to_hub", "save_pretrained"]

FILE = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)  # OWNER/NAME


def load_pretrained(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    device: str | torch.device = "cpu",
    **own_parts: Any,
) -> BlendMask:
    """See `BlendMask.from_pretrained`."""
    path = Path(source) if (Path(source) / FILE).is_file() else find_checkpoint(source)
    if find_published(source) is not None:
        return load_adelaidet(source).to(device)
    if path.is_file():
        return load_model(path, device=device, **own_parts)
    if path.is_dir():
        file = _file_of(path)
    elif REPO_ID.fullmatch(str(source)):
        file = _download(str(source), revision, token, is_local=local_files_only or is_offline())
    else:
        raise FileNotFoundError(f"{printable(source)}: {_unknown(str(source))}")
    if not is_safetensors(file):
        raise ValueError(f"{printable(file)}: is no safetensors file, or damaged")
    return load_model(file, device=device, **own_parts)


def _file_of(folder: Path) -> Path:
    if not (folder / FILE).is_file():
        others = sorted(path.name for path in folder.iterdir())
        there = f"there are {printable(listed(others))}" if others else "it is empty"
        raise FileNotFoundError(f"{printable(folder)}: no {FILE} in this folder; {there}")
    return folder / FILE


def _unknown(name: str) -> str:
    if name in PRESETS:
        return f'a preset, which has no weights; BlendMask(PRESETS["{name}"]) makes such a model'
    near = difflib.get_close_matches(name, [*SHIPPED_MODELS, *PUBLISHED, *PRESETS], n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return (
        f"no such file or folder, and no name of a published checkpoint or, as OWNER/NAME, of a "
        f"repository of the Hub{hint}"
    )


def _download(
    repo_id: str, revision: str | None, token: str | bool | None, *, is_local: bool
) -> Path:
    """The repository's checkpoint, downloaded into the Hub's own cache."""
    hub = _require_client()
    try:
        return Path(
            hub.hf_hub_download(
                repo_id, FILE, revision=revision, token=token, local_files_only=is_local
            )
        )
    except Exception as error:  # also errors of its HTTP library, which differs between versions
        place = repo_id if revision is None else f"{repo_id} at revision {revision}"
        raise DownloadError(f"{printable(place)}: {_reason(error, is_local=is_local)}") from error


def _require_client() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError('the Hub needs a package: pip install "blendmask_lite[hub]"') from None
    return huggingface_hub


def _reason(error: Exception, *, is_local: bool = False) -> str:
    """The meaning of an error of the Hub's client, in one line."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        why = "downloads are forbidden" if is_local else "the Hub cannot be reached"
        return f"no such folder, not in the Hub's cache, and {why}"
    if isinstance(error, errors.GatedRepoError):
        return "its owner has to grant access; ask on its page, then log in: hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such folder, and no such repository on the Hub; if private: hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, errors.EntryNotFoundError):
        return f"the repository has no {FILE}"
    return first_line(error)


def save_pretrained(
    model: BlendMask,
    folder: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    repo_id: str = "OWNER/NAME",
) -> None:
    """See `BlendMask.save_pretrained`; `repo_id` is named in the card."""
    folder = Path(folder)
    save_model(model, folder / FILE, metadata=metadata, dtype=dtype)
    checkpoint = Checkpoint.of(model, metadata=dict(metadata or {}))
    write_atomically(folder / CONFIG, json.dumps(plain_content(checkpoint), indent=2).encode())
    if not (folder / CARD).exists():  # the author may have changed the card
        write_atomically(folder / CARD, _card(checkpoint, repo_id).encode())


def push_to_hub(
    model: BlendMask,
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str = "Upload BlendMask",
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> str:
    """See `BlendMask.push_to_hub`."""
    client = _require_client().HfApi(token=token)
    if is_offline():
        raise OSError(f"BLENDMASK_OFFLINE is set: {printable(repo_id)} is not uploaded")
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, metadata=metadata, dtype=dtype, repo_id=repo_id)
        try:
            own = client.create_repo(repo_id, private=private, exist_ok=True).repo_id
            has_card = client.file_exists(own, CARD, revision=revision)
            commit = client.upload_folder(
                repo_id=own,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message,
                ignore_patterns=[CARD] if has_card else None,
            )
        except Exception as error:
            raise OSError(f"{printable(repo_id)}: not uploaded ({_reason(error)})") from error
    return str(commit.commit_url)


def _card(checkpoint: Checkpoint, repo_id: str) -> str:
    """A model card with what the checkpoint knows; the author writes the rest."""
    config, settings = checkpoint.config, checkpoint.inference
    num_classes = counted(config.num_classes, "class", "classes")
    text = [
        *("---", "library_name: blendmask_lite", "pipeline_tag: image-segmentation"),
        *("tags:", "- instance-segmentation", "- blendmask", "---", "", "# BlendMask", ""),
        "Instance segmentation with [BlendMask](https://arxiv.org/abs/2001.00309), for "
        "[blendmask_lite](https://pypi.org/project/blendmask-lite/).",
        "",
        f"- Backbone: {printable(config.backbone)}",
        f"- {num_classes}: {printable(', '.join(checkpoint.class_names))}",
    ]
    if checkpoint.stuff_names:
        text.append(f"- Stuff: {printable(', '.join(checkpoint.stuff_names))}")
    text.append(
        f"- Size of images: shorter side {settings.test_size} pixels, longer side at most "
        f"{settings.max_size}; `blendmask-lite segment` and `predict` resize all but tensors to it"
    )
    text += [f"- {name}: {printable(value)}" for name, value in checkpoint.metadata.items()]
    own = checkpoint.own_parts.items()
    parts = "".join(f", {name}={kind.rpartition('.')[2]}(...)" for name, kind in own)
    text += [
        *("", "```python", "from blendmask_lite import BlendMask", ""),
        f'model = BlendMask.from_pretrained("{printable(repo_id)}"{parts})',
        "[found] = model.predict([image])  # (3, H, W) RGB, uint8 or 0 to 1",
        "print([model.class_names[label] for label in found.labels])",
        *("```", "", "## To be added by the author", ""),
        "Training data, scores on held-out images, limits, and the licence of the weights.",
    ]
    return "\n".join(text) + "\n"
