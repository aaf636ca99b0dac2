"""From files to pixels, exactly as the contract says."""
