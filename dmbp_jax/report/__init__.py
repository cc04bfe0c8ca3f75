"""The page of a run: its tables, curves and maps."""
