"""Accuracy on tasks: run, score, and report; and public benchmarks through lmms-eval."""
