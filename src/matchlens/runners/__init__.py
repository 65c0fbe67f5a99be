"""Where a study's pairs are run: in shards, here, in processes beside this one, or on a cluster.

Every study takes ``runner=``. What it yields is byte for byte the same whatever ran the shards, in
which order they came, and how often the run was stopped and went on.
"""

from matchlens.runners.measures import Measure, MeasurementRequest
from matchlens.runners.runner import Runner, ShardedRunner, run

__all__ = ["Measure", "MeasurementRequest", "Runner", "ShardedRunner", "run"]
