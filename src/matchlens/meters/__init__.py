"""Streaming accumulators that watch a run."""
