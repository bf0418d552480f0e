"""The vocabulary of Sightline: kinds, conditions, access rules, the session lifecycle, tokens and messages.

Every other package speaks in these types; this one imports pydantic, PyJWT and cryptography only and does no I/O,
so that each rule in it can be tested as a table. Import from the submodules; nothing is re-exported here.
"""
