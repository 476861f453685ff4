"""What the platform mounts over `shared/`, as far as the hub can tell; this folder goes on the path."""
