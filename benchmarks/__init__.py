"""The same work done by matchlens and by what a user would write or pick instead, side by side.

``python -m benchmarks`` runs it (``make bench``, ``make bench-full``), and
``python -m benchmarks.page`` writes ``docs/performance.md`` from what was measured.
"""
