"""One vision tower a file: what it offers, and how it is read while it runs."""
