"""What is measured of one picture: numbers for the records, no verdicts."""
