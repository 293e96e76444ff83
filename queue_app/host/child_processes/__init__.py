"""Children of this process: what they answer, what memory they may take, and that they never outlive it."""
