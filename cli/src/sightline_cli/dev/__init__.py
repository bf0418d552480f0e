"""The embedded form of Sightline: everything in one process, agents as child processes, no cluster."""
