"""The narrow port through which Sightline reaches Kubernetes.

`cluster` is the contract, `real` and `memory` keep it, `cache` stands on it.
"""
