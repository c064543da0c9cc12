"""The exchange with sites: who is there, what they are asked, what of their answers is admitted."""
