"""Recognition in context: similar persons are shown with their labels before the one that is asked about (CAER)."""
