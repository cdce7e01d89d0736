"""Pictures of what was kept: an overlay, and one self-contained HTML page."""
