"""Where attention goes, how it differs with relevance, and which heads match."""
