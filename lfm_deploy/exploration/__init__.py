"""What a network makes of pictures."""
