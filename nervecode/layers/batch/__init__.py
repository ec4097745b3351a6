"""What a loader gives, and what the arguments and the output of a call tell of its inputs."""
