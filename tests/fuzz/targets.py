"""All fuzz targets."""

from tests.fuzz import media, pulled, transport, words

TARGETS = (*transport.TARGETS, *media.TARGETS, *pulled.TARGETS, *words.TARGETS)
