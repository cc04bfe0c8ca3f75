"""How fast, and how much memory: times that can be compared, and what is counted without running."""
