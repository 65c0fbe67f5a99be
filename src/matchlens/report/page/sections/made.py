"""How it was made: model, pairs, versions, the check's outcome, notes, how to cite."""

from __future__ import annotations

from collections.abc import Mapping

from matchlens.report.page.parts import notes_of
from matchlens.report.page.results_folder import ResultsFolder
from matchlens.report.page.texts import NONE, prose, shown, spelled

PAPER = (
    "Vast, Van Cooten, Soulier, Piwowarski: Understanding Matching Mechanisms in Cross-Encoders. "
    "WExIR at SIGIR 2025, arXiv 2507.14604."
)
MOST = 120


def made(held: ResultsFolder) -> dict[str, object]:
    """What the last section shows."""
    versions = held.about("versions")
    pairs = {key: value for key, value in held.about("pairs").items() if key != "sources"}
    sources = held.about("pairs").get("sources")
    checks = _checks(held)
    seeds = sorted(
        {str(r.options["seed"]) for r in held.studies.values() if r.options.get("seed") is not None}
    )
    version = shown(versions.get("matchlens", "?"), 40)
    model = shown(held.model, 120)
    return {
        "groups": [
            ("Model", _flat(held.about("model"))),
            ("Pairs", _flat(pairs)),
            *[
                (f"Collection {shown(one.get('collection', ''), 80)}", _flat(one))
                for one in (sources if isinstance(sources, list) else [])
                if isinstance(one, Mapping)
            ],
            ("Versions", _flat(versions)),
        ],
        "checks": checks,
        "seeds": ", ".join(seeds) or "none",
        "truncated": _truncated(held),
        "notes": [(shown(n, 60), notes_of(result)) for n, result in held.studies.items()],
        "commands": _commands(held.manifest.get("commands")),
        "cite": f"matchlens {version}, report on {model}.",
        "paper": PAPER,
    }


def _checks(held: ResultsFolder) -> list[dict[str, object]]:
    """The check's outcomes, alike ones once: the studies that saw them, a row for each question."""
    found: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for name, result in held.studies.items():
        rows = tuple(_check_rows(result.options.get("check")))
        if rows:
            found.setdefault(rows, []).append(shown(name, 60))
    return [{"studies": ", ".join(names), "rows": rows} for rows, names in found.items()]


def _check_rows(check: object) -> list[tuple[str, ...]]:
    """What was asked, seen, expected, and whether it was right; in any shape."""
    if not isinstance(check, Mapping):
        return [("outcome", shown(spelled(check), 400), "", "")] if check else []
    rows = []
    for name, value in check.items():
        if isinstance(value, Mapping) and "what" in value:
            seen, right = value.get("seen"), value.get("ok")
            verdict = "not asked" if seen is None else "right" if right is True else "wrong"
            rows.append(
                (
                    prose(value["what"]),
                    NONE if seen is None else shown(spelled(seen), 200),
                    shown(value.get("expected") or "", 200),
                    verdict,
                )
            )
        else:
            rows.append(
                (shown(str(name).replace("_", " "), 120), shown(spelled(value), 400), "", "")
            )
    return rows


def _commands(given: object) -> list[str]:
    """The command lines that made the folder."""
    some = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    return [shown(one["line"], 4000) for one in some if isinstance(one.get("line"), str)][:MOST]


def _truncated(held: ResultsFolder) -> str:
    for result in held.studies.values():
        if "truncated" in result.pairs and len(result.pairs):
            number = int(result.pairs["truncated"].to_numpy(dtype=bool).sum())
            return f"{number:,} of {len(result.pairs):,} pairs were cut to the length limit."
    return "The folder does not say how many pairs were cut to the length limit."


def _flat(value: object, path: str = "") -> list[tuple[str, str]]:
    """Nested mappings as names and texts."""
    if isinstance(value, Mapping):
        out: list[tuple[str, str]] = []
        for key, one in value.items():
            name = f"{path}, {key}" if path else str(key)
            out += _flat(one, shown(name.replace("_", " "), 120))
        return out[:MOST]
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        out = []
        for place, one in enumerate(value):
            out += _flat(one, f"{path} {place + 1}")
        return out[:MOST]
    return [(path or "outcome", shown(spelled(value), 400))] if value is not None or path else []
