"""The site manifest: what a hospital knows of its studies beside the images, in three CSV files."""
