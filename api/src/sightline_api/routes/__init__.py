"""The HTTP surface, one module per area. Handlers authorize, ask the parts of `door`, and word the answer."""
