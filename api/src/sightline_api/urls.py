"""Absolute addresses of our own resources, as the client sees them.

Clients want an absolute `Location` (OBS clears the query of a relative one, GStreamer resolves it against what was
configured). The host is the configured one, else the request's own; forwarded headers count from trusted proxies only.
"""

import re
from ipaddress import ip_address, ip_network

from starlette.requests import Request

from sightline_api.problems import problem_error
from sightline_api.settings import Settings
from sightline_model.problems import ProblemCode

_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def public_base(request: Request, settings: Settings) -> str:
    """Scheme and host (and path of `public_url`) without a slash at the end."""
    if settings.public_url is not None:
        return str(settings.public_url).rstrip("/")
    scheme, host = request.url.scheme, request.headers.get("host", "")
    if _trusted(request, settings.trusted_proxies):
        forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
        scheme = forwarded if forwarded in {"http", "https"} else scheme
        host = request.headers.get("x-forwarded-host", "").split(",")[0].strip() or host
    if not _HOST.fullmatch(host):
        raise problem_error(ProblemCode.INVALID_REQUEST, "The Host header is not valid.")
    return f"{scheme}://{host}"


def _trusted(request: Request, networks: list[str]) -> bool:
    if request.client is None or not networks:
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    return any(address in ip_network(network) for network in networks)
