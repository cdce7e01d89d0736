"""One model family a file: geometry, pixels, and one look through its tower."""
