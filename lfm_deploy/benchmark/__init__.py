"""How fast engines are, and how fast the machine could be."""
