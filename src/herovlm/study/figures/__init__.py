"""The figures of a study, each as PNG and SVG: drawn from its numbers alone, and the pictures of its examples."""
