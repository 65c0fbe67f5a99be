"""What every study of cuts does: choose pairs, run the conditions, measure, keep the provenance."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from matchlens.corpora import EASY_GRADE, PairSet, thin
from matchlens.engine import Progress, Run, lengths
from matchlens.models.load import Reranker
from matchlens.plan import Condition
from matchlens.results import Result
from matchlens.runners import Runner, run
from matchlens.studies.common import identity, pair_table, relevant_grade
from matchlens.studies.impossible import note, reason
from matchlens.studies.measuring import measured, notes, prepare, score_table
from matchlens.studies.presets import preset as preset_of


@dataclass(frozen=True)
class Settings:
    """The options that every study of cuts has; see :func:`matchlens.ablation`."""

    preset: str = "default"
    measure: str = "nDCG@10"
    rel: int | None = None
    tie_tol: float | None = None
    rank_easy: bool = False
    seed: int = 0
    batch_tokens: int | None = None
    most_pairs: int | None = None


@dataclass(frozen=True)
class CutStudy:
    """Measured conditions.

    Args:
        model: what was run.
        pairs: all pairs of the study.
        rows: the places of those that were run.
        settings: the options.
        out: the run.
        reasons: for each condition why it could remove nothing, None where it could.
        table: a row for each condition, the untouched model first, the random ranking second.
        queries: a row for each condition and query.
        options: what the manifest says of the settings and the run.
        notes: what a person should know.
        seconds: wall time of the run.
    """

    model: Reranker
    pairs: PairSet
    rows: list[int]
    settings: Settings
    out: Run
    reasons: tuple[str | None, ...]
    table: pd.DataFrame
    queries: pd.DataFrame
    options: Mapping[str, object]
    notes: tuple[str, ...]
    seconds: float

    def result(
        self,
        study: str,
        options: Mapping[str, object],
        tables: Mapping[str, pd.DataFrame],
        more: Sequence[str] = (),
    ) -> Result:
        """The study's result.

        Args:
            study: its name.
            options: its own options; they override those that every study has.
            tables: its tables, the main one first.
            more: notes of its own.
        """
        number = len(self.pairs.pairs)
        tokens, truncated = self.out.tokens, self.out.truncated
        if len(self.rows) < number:
            tokens, truncated = lengths(self.model, self.pairs.pairs)
        conditions = len(self.out.plan.conditions)
        return Result(
            study=study,
            identity=identity(self.model.identity, self.pairs),
            options={**self.options, **options},
            notes=(*self.pairs.notes, *self.notes, *self.model.notes, *more),
            pairs=pair_table(self.pairs.pairs, tokens, truncated, self.settings.seed),
            scores=score_table(self.out, self.rows),
            tables=tables,
            log=(
                f"{study}: {conditions} conditions on {len(self.rows)} pairs: {self.seconds:.1f} s",
            ),
        )


def pairs_run(pairs: PairSet, settings: Settings) -> tuple[PairSet, list[int]]:
    """The pairs that a study runs, and their places: what is not ranked is not run.

    Args:
        pairs: all pairs.
        settings: the options.

    Raises:
        InputError: if ``most_pairs`` is too small for a single query.
    """
    most = settings.most_pairs
    if most is None and not settings.rank_easy:
        most = sum(pair.grade != EASY_GRADE for pair in pairs.pairs)
    if most is None:
        return pairs, list(range(len(pairs.pairs)))
    return thin(pairs, most, seed=settings.seed, easy=settings.rank_easy)


def conduct(
    model: Reranker,
    pairs: PairSet,
    conditions: Mapping[str, Condition],
    settings: Settings,
    *,
    families: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    runner: Runner = run,
) -> CutStudy:
    """Run conditions on pairs and measure the rankings.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        conditions: name to cuts or a control; ``""``, the untouched model, is among them.
        settings: the options.
        families: condition to the family of tests in which it is corrected; one where None.
        progress: called with pairs done and pairs in all.
        runner: runs the conditions; another study may share its run.

    Raises:
        InputError: if a setting, a condition or the pairs cannot be used.
    """
    chosen = preset_of(settings.preset)
    used, rows = pairs_run(pairs, settings)
    rel = relevant_grade(pairs, settings.rel)
    parsed, tol, queries, left_out = prepare(
        used, settings.measure, rel, settings.tie_tol, model.dtype, settings.rank_easy
    )
    started = time.perf_counter()
    out = runner(
        model,
        used.pairs,
        conditions,
        seed=settings.seed,
        batch_tokens=settings.batch_tokens,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    impossible = {
        name: reason(condition, out.reach, out.causal) for name, condition in conditions.items()
    }
    table, per_query = measured(
        out, queries, parsed, tol, settings.seed, families, impossible=impossible
    )
    said = [*left_out, *notes(out, used.pairs, queries, table), *note(list(impossible.values()))]
    if model.reads_last:
        said.append("CLS stands for the input's last token, whose state the score reads")
    if len(rows) < len(pairs.pairs):
        said.insert(0, f"run on {len(rows)} of {len(pairs.pairs)} pairs, {len(queries)} queries")
    options = {
        "preset": chosen.name,
        "stars": chosen.stars,
        "digits": chosen.digits,
        "measure": str(parsed),
        "rel": rel,
        "tie_tol": tol,
        "rank_easy": settings.rank_easy,
        "seed": settings.seed,
        "most_pairs": settings.most_pairs,
        "pairs_run": len(rows),
        "layers": model.family.n_layers,
        "heads": model.family.n_heads,
        "device": out.device,
        "original": float(table["mean"].iloc[0]),
        "random": float(table["mean"].iloc[1]),
        "layer_passes": out.plan.passes,
        "layer_passes_unshared": out.plan.passes_unshared,
        "batches": {
            "batch_tokens": out.batch_tokens,
            "number": len(out.batches),
            "pairs": list(out.batches),
        },
        "check": dict(model.checks),
    }
    return CutStudy(
        model,
        pairs,
        rows,
        settings,
        out,
        tuple(impossible.values()),
        table,
        per_query,
        options,
        tuple(said),
        seconds,
    )
