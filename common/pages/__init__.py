"""What every report of prostafed looks like: one HTML file that asks nothing of the network. Loads matplotlib."""
