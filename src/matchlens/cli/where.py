"""Who runs a study's pairs, as the command line asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from matchlens.errors import InputError

if TYPE_CHECKING:
    from matchlens.runners.model_spec import ModelSpec
    from matchlens.runners.runner import Executor


@dataclass(frozen=True)
class Where:
    """Who runs the pairs.

    Args:
        runner: ``local`` or ``ray``.
        workers: how many processes; the runner's default where None.
        ray_address: of the cluster.
    """

    runner: str = "local"
    workers: int | None = None
    ray_address: str | None = None

    @property
    def options(self) -> dict[str, str | int | None]:
        """The options by name; None where one is at its default."""
        runner = None if self.runner == "local" else self.runner
        return {"runner": runner, "workers": self.workers, "ray_address": self.ray_address}

    def check(self) -> None:
        """See that the options go together, before anything is loaded.

        Raises:
            InputError: if they do not, or Ray is not installed.
        """
        if self.runner not in ("local", "ray"):
            raise InputError(f"--runner {self.runner!r} is not known; expected one of local, ray")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers is {self.workers}; expected 1 or more")
        if self.ray_address is not None and self.runner != "ray":
            raise InputError(
                "--ray-address goes with --runner ray; give both, or leave --ray-address out"
            )
        if self.runner == "ray" and find_spec("ray") is None:
            raise InputError(
                "--runner ray needs Ray, which is not installed; install it: "
                "pip install 'matchlens[ray]'"
            )

    def executor(self, recipe: ModelSpec) -> Executor | None:
        """Who runs the shards; None: this process."""
        if self.runner == "ray":
            from matchlens.runners.ray import RayExecutor

            return RayExecutor(recipe, self.ray_address, self.workers)
        if (self.workers or 1) > 1:
            from matchlens.runners.local import ProcessExecutor

            return ProcessExecutor(recipe, self.workers or 1)
        return None
