"""What server and sites say to each other: messages, their form by wire, compression."""
