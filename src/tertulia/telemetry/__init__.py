"""What the process tells about itself: its logs, and the tasks it must not lose."""
