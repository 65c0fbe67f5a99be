"""What the check at load asks of a model, question by question."""
