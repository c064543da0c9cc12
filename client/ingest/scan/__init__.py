"""What an export holds: which files, what their headers say (pixels unread), which series is what."""
