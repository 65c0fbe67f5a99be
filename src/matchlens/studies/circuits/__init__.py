"""What the query-key matrices say of each head."""
