"""Do all engines make the checkpoint's decisions, and what is left of them after what happens to pictures."""
