"""How sure a figure is: resampled test sets, intervals, paired differences, and how many pictures would decide."""
