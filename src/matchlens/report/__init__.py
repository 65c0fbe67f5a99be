"""What a person reads: tables for a terminal and a paper."""
