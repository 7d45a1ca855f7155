"""Kill what runs trials, at random moments, and hold what comes of it against a run that nobody disturbed."""
