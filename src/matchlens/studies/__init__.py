"""The analyses; each is one function from pairs to a Result."""
