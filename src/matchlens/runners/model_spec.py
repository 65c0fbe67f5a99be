"""How a worker loads the driver's model: from the same files, or it is refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

from matchlens.errors import InputError, MatchlensWarning
from matchlens.models.load import Reranker
from matchlens.prompts import Prompt


@dataclass(frozen=True)
class ModelSpec:
    """What a worker needs to load a model."""

    name: str
    sha256: str
    revision: str | None = None
    prompt: Prompt | None = None
    dtype: str = "float32"
    max_length: int | None = None
    device: str | None = None
    negate: bool = False
    label: int | None = None

    def to_json(self) -> str:
        """The spec as a text: what a worker is sent."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> ModelSpec:
        """The spec that :meth:`to_json` wrote."""
        spec = cls(**json.loads(text))
        prompt: Any = spec.prompt
        return spec if prompt is None else replace(spec, prompt=Prompt(**prompt))

    def load(self, device: str | None = None) -> Reranker:
        """Load the model."""
        from matchlens.models.folder import find
        from matchlens.models.load import load

        folder = find(self.name, self.revision)
        if folder.sha256 != self.sha256:
            raise InputError(
                f"model {self.name!r}: a worker's files have the SHA-256 {folder.sha256[:12]}..., "
                f"the driver's {self.sha256[:12]}...; expected the same files on every node"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MatchlensWarning)  # the driver says it
            return load(
                folder.asked(self.prompt),
                device=self.device or device,
                dtype=self.dtype,
                max_length=self.max_length,
                negate=self.negate,
                label=self.label,
            )
