"""Sound that browsers do not play as it comes (AAC), encoded again as Opus.

`encoder` does it with FFmpeg's libraries; sources that read with them anyway use it in their own thread. Network
sources do not load them into the agent: `process` starts `worker`, a process of its own, and speaks to it in the words
of `wire`. Whatever goes wrong with sound costs the sound alone.
"""
