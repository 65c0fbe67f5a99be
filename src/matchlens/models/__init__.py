"""Model families and the one attention function."""
