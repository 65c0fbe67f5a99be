"""Run the examples: every script, and every notebook from top to bottom.

python tools/run_examples.py [FILE ...]    all of examples/ where none is named
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]


def run_script(path: Path) -> str:
    """What went wrong when a script was run at the project's root; empty where nothing did."""
    done = subprocess.run([sys.executable, str(path)], cwd=ROOT, check=False)
    return f"exit status {done.returncode}" if done.returncode else ""


def run_notebook(path: Path) -> str:
    """What went wrong when a notebook was run where it stands; the file is left as it is."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    try:
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    except CellExecutionError as error:
        return str(error)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stdout":
                print(output.text, end="")
    return ""


def main(names: list[str]) -> int:
    """Run all that are named; 1 where one of them failed."""
    every = [*sorted(ROOT.glob("examples/*.py")), *sorted(ROOT.glob("examples/*.ipynb"))]
    failed, ran = 0, 0
    for path in [Path(name).resolve() for name in names] or every:
        print(f"== {path.name}", flush=True)
        started = time.perf_counter()
        wrong = (run_notebook if path.suffix == ".ipynb" else run_script)(path)
        ran += 1
        failed += bool(wrong)
        print(
            f"== {path.name}: {wrong or 'ran'}, {time.perf_counter() - started:.0f} s\n", flush=True
        )
    print(f"{ran - failed} examples ran, {failed} failed")
    return int(failed > 0 or ran == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
