"""What every program here shares: files, tables, configuration, commands, processes, keys, progress."""
