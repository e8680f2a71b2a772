"""What the commands print: rows for scripts, and the same as text."""
