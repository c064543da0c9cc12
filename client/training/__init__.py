"""Local training loops; torch, MONAI and numpy only."""
