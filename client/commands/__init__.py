"""The commands of prostafed-site. What one needs is imported when it is called: --help and listings stay quick."""
