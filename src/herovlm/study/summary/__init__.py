"""What the records of a study say: means, intervals, and one sentence a finding."""
