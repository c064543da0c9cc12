"""The gate: which cases enter a study, what may leave the site, and the one exit it leaves through."""
