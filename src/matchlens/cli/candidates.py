"""The collections and the candidates that the options name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matchlens.errors import InputError
from matchlens.options import StudySettings
from matchlens.settings import Settings

if TYPE_CHECKING:
    from matchlens.corpora import Collection, PairSet
    from matchlens.studies.presets import Preset


COLLECTIONS = ("topics", "qrels", "passages", "demo", "dataset")
"""Options that name a collection."""


def collections(settings: StudySettings, preset: Preset) -> list[Collection]:
    """Read the collections that the options name, in exactly one way.

    Several collections in files are called by the topics' file names, with as many folders before
    them as are needed to tell them apart.
    """
    from matchlens.corpora import beir, irds
    from matchlens.corpora import demo as built_in

    files = {
        "--topics": settings.topics,
        "--qrels": settings.qrels,
        "--passages": settings.passages,
    }
    named = [name for name, paths in {**files, "--run": settings.run}.items() if paths]
    number = sum((settings.demo, bool(settings.dataset), bool(named)))
    if number != 1:
        raise InputError(
            f"{number} collections named; expected exactly one of: --demo; --dataset ID; "
            "--topics FILE --qrels FILE --passages FILE [--run FILE]"
        )
    query_field, doc_fields = settings.query_field, settings.doc_fields
    if (query_field is not None or doc_fields is not None) and not settings.dataset:
        raise InputError(
            "--query-field and --doc-fields go with --dataset; give --dataset, or leave them out"
        )
    if settings.demo:
        return [built_in.load()]
    if settings.dataset:
        fields = None if doc_fields is None else [word.strip() for word in doc_fields.split(",")]
        if any(Path(name).is_dir() for name in settings.dataset) and (query_field or fields):
            raise InputError(
                "--query-field and --doc-fields name fields of a dataset of ir_datasets, and a "
                "folder in BEIR's form came; leave them out"
            )
        folders = [Path(name).resolve() for name in settings.dataset if Path(name).is_dir()]
        names = iter(_names(folders, "--dataset"))
        return [
            beir.load(name, name=next(names))
            if Path(name).is_dir()
            else irds.load(name, query_field=query_field, doc_fields=fields)
            for name in settings.dataset
        ]
    if missing := [name for name, paths in files.items() if not paths]:
        raise InputError(
            f"{', '.join(missing)} missing; expected all of --topics, --qrels, --passages"
        )
    return _from_files(settings, preset)


def _from_files(settings: StudySettings, preset: Preset) -> list[Collection]:
    from matchlens.corpora import trec

    topics, qrels, run = settings.topics or [], settings.qrels or [], settings.run or []
    if len(topics) != len(qrels) or len(run) not in {0, len(topics)}:
        raise InputError(
            f"{len(topics)} --topics, {len(qrels)} --qrels and {len(run)} --run; expected as many "
            "of each (or no --run)"
        )
    by_preset = settings.per_grade is None and not settings.all_judged
    depth = preset.depth if settings.depth is None and by_preset else settings.depth
    if run and depth is None and not settings.easy:
        raise InputError(
            "--run is given and nothing uses it; give --depth K to rerank its first K passages, "
            "or --easy N for random passages outside it, or leave it out"
        )
    return [
        trec.load(topic, qrel, settings.passages or [], ranking, name=name)
        for topic, qrel, ranking, name in zip(
            topics, qrels, run or [None] * len(topics), _names(topics, "--topics"), strict=True
        )
    ]


def _names(paths: Sequence[Path], option: str) -> list[str | None]:
    """The shortest distinct ends of files' or folders' paths; None where the last name is enough.

    A file's name counts up to its first dot.
    """
    tails = [
        (
            *path.parts[1:-1],
            path.name if os.path.isdir(path) else path.name.lstrip(".").split(".")[0],
        )
        for path in (Path(os.path.abspath(path)) for path in paths)
    ]
    names: list[str | None] = []
    for place, tail in enumerate(tails):
        others = tails[:place] + tails[place + 1 :]
        if tail in others:
            raise InputError(
                f"two collections would be called {'/'.join(tail[-1:])!r}, after {option} "
                f"{str(paths[place])!r}; expected another name for each: rename or copy one"
            )
        length = 1
        while any(tail[-length:] == other[-length:] for other in others):
            length += 1
        names.append("/".join(tail[-length:]) if length > 1 else None)
    return names


def check_own_parts(settings: Settings) -> None:
    """Check that the user-defined parts in cuts and directions are defined."""
    from matchlens.corpora.own import read_parts
    from matchlens.parts import Part
    from matchlens.plan import bound, single_cuts

    texts = [*(getattr(settings, "cut", None) or ()), *(getattr(settings, "direction", None) or ())]
    cuts = single_cuts(texts)
    sets = getattr(settings, "sets", None)  # the sweep's option of that name is a list
    cuts |= sets if isinstance(sets, dict) else {}
    fields, parts = getattr(settings, "fields", None), getattr(settings, "parts", None)
    own = {} if parts is None else dict.fromkeys(read_parts(parts), Part.D)
    own |= {name.strip().upper(): Part.D for name in (fields or "").split(",") if name.strip()}
    bound(cuts, own)


def draw(
    read: Sequence[Collection], settings: StudySettings, preset: Preset, *, easy: int, seed: int
) -> PairSet:
    """Draw the candidates that the options choose, over all collections."""
    from matchlens.corpora import PairSet, choose
    from matchlens.corpora.own import read_parts, spans_by_id

    per_grade, depth = settings.per_grade, settings.depth
    flags = {
        "--per-grade": per_grade is not None,
        "--all-judged": settings.all_judged,
        "--depth": depth is not None,
    }
    typed = [flag for flag, is_typed in flags.items() if is_typed]
    if len(typed) > 1:
        raise InputError(f"{' and '.join(typed)} exclude each other; give only one of them")
    if not typed:
        depth = preset.depth
    most = preset.per_grade if per_grade is None else per_grade
    parts = {} if settings.parts is None else read_parts(settings.parts)

    sets = [
        choose(
            collection,
            per_grade=None if settings.all_judged or depth is not None else most,
            all_judged=settings.all_judged,
            depth=depth,
            ideal=settings.ideal,
            queries=settings.queries,
            query_prefix=settings.query_prefix,
            passage_prefix=settings.passage_prefix,
            easy=easy,
            seed=seed,
        )
        for collection in read
    ]
    chosen = sets[0] if len(sets) == 1 else PairSet.join(sets)
    if settings.fields is not None:
        chosen = chosen.with_fields(read, settings.fields.split(","))
    for name, (of, spans) in parts.items():
        prefix = settings.passage_prefix if of == "D" else settings.query_prefix
        chosen = chosen.with_parts({name: spans_by_id(chosen.pairs, of, spans, prefix)}, of)
    return chosen
