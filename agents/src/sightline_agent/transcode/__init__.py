"""What a browser cannot play made into H.264 that every browser plays, in a process of its own."""
