"""How fast the checkpoint store writes, resumes and verifies, and what it costs inference."""
