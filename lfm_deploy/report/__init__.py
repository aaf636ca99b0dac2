"""The report of a verification: JSON first; terminal and page are views of it."""
