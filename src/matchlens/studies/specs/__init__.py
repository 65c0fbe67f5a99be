"""The studies that have a command, a file each."""
