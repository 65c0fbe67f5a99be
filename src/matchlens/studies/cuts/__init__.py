"""What cutting attention does to the ranking."""
