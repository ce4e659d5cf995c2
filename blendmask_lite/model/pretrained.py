"""Loading and sharing a model under the names that users of the Hugging Face Hub know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from blendmask_lite.model.blendmask import BlendMask

__all__ = ["Pretrained"]


class Pretrained:
    """Methods of `BlendMask`. They import `weights/hub.py` when called, which does the work."""

    @staticmethod
    def from_pretrained(
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
        **own_parts: Any,
    ) -> BlendMask:
        """A model with its weights, in evaluation mode, float32, on `device`.

        Args:
            source: a name of the authors' model zoo (`load_adelaidet` reads it), a checkpoint
                file, a folder with a `model.safetensors` (of `save_pretrained` or of a training
                run), or a repository of the Hugging Face Hub as OWNER/NAME. A local file or folder
                wins over a repository.
            revision: branch, tag or commit of a repository; by default its main branch.
            token: access token for a private repository; by default the one of `hf auth login`.
            local_files_only: take repositories from the Hub's cache only, as do the environment
                variables `HF_HUB_OFFLINE` and `BLENDMASK_OFFLINE`.
            device: device of the model.
            own_parts: see `load_model`.

        Raises:
            FileNotFoundError: there is no such name or file, or the folder has no model.
            DownloadError: no such repository or revision, no model in it, or no network.
            ImportError: the Hub's client is missing.
            ValueError: see `load_model`; the file of a folder or repository has to be safetensors.
        """
        from blendmask_lite.weights.hub import load_pretrained

        return load_pretrained(
            source,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            device=device,
            **own_parts,
        )

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Write what `from_pretrained` reads: `model.safetensors`, `config.json` and a model card.

        A `README.md` that is already there stays. Arguments and errors are as in `save_model`.
        """
        from blendmask_lite.weights.hub import save_pretrained

        save_pretrained(cast("BlendMask", self), folder, metadata=metadata, dtype=dtype)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        commit_message: str = "Upload BlendMask",
        metadata: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes, as one commit; a card on the Hub stays as it is.

        Args:
            repo_id: OWNER/NAME, or NAME for the account of the token; made if it is missing.
            revision: an existing branch; by default the main one.
            token: access token with the right to write; by default the one of `hf auth login`.
            private: whether a new repository is private; by default as set in the account.
            commit_message: one line.
            metadata: see `save_model`.
            dtype: see `save_model`.

        Returns:
            The commit's address.

        Raises:
            ImportError: the Hub's client is missing.
            OSError: the upload failed; the message says why.
            ValueError: see `save_model`.
        """
        from blendmask_lite.weights.hub import push_to_hub

        return push_to_hub(
            cast("BlendMask", self),
            repo_id,
            revision=revision,
            token=token,
            private=private,
            commit_message=commit_message,
            metadata=metadata,
            dtype=dtype,
        )
