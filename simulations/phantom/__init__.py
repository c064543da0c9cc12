"""Generated biparametric prostate studies, a pure function of a seed."""
