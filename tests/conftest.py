"""What holds for every test: Hypothesis judges results and never how long they took, which is the machine's affair."""

from hypothesis import HealthCheck, settings

settings.register_profile("sightline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sightline")
