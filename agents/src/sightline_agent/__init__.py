"""The media agent: one camera, many viewers, one process."""
