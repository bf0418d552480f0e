"""The operator: turns Cameras into agent pods and says in their status what is true.

    handlers (kopf) -> cache -> routes -> workqueue -> core: gather facts -> decide -> act

Events only say which key changed. `decide`, `sessions` and `classes` are pure functions of `facts`; `act` and `status`
carry out what they decided through the Cluster port. `core.Operator` runs it all and knows nothing of kopf, so the same
operator runs in a cluster and in one process with the in-memory cluster.
"""
