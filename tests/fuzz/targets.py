"""All fuzz targets."""

from tests.fuzz import headers, media, native, pictures, pulled, sounds, transport, words

TARGETS = (
    *transport.TARGETS,
    *native.TARGETS,
    *media.TARGETS,
    *pictures.TARGETS,
    *pulled.TARGETS,
    *sounds.TARGETS,
    *headers.TARGETS,
    *words.TARGETS,
)
