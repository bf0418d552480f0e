"""The front door: authenticates people and apps, decides what they may do, and passes signaling on to agents.

`app.create_app` builds it from its parts (settings, cluster, cache, signer, clocks); nothing here is a global. It keeps
no state that a second replica would need, and no media passes through it.
"""
