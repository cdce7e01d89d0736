"""The three findings of the HERO paper, as measurements on any supported model."""
