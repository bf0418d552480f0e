# One recipe for the three images: `docker build --build-arg COMPONENT=agent .` (operator, api or agent).
# The api's image carries the web page: run `make web` before building it.

ARG COMPONENT=operator

# The sources of a component: its own package and those it imports, and what it serves besides.
FROM scratch AS sources-operator
COPY model /packages/model
COPY kube /packages/kube
COPY operator /packages/operator

FROM scratch AS sources-api
COPY model /packages/model
COPY kube /packages/kube
COPY api /packages/api
COPY web/dist /share/web

FROM scratch AS sources-agent
COPY model /packages/model
COPY agents /packages/agent

FROM sources-${COMPONENT} AS sources

# What every image has underneath: Debian's Python and the public certificate authorities.
FROM debian:trixie-slim AS base
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    && echo 'sightline:x:65532:' >> /etc/group \
    && echo 'sightline:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd

# The agent's native fan-out, built with Debian's Rust; the other images have none.
FROM base AS rust
ARG PIP_CERT
RUN apt-get update -q && apt-get install -q -y --no-install-recommends cargo gcc libc6-dev
COPY agents/fanout /fanout
RUN cd /fanout \
    && if [ -n "${PIP_CERT}" ]; then export CARGO_HTTP_CAINFO="${PIP_CERT}"; fi \
    && PYO3_BUILD_EXTENSION_MODULE=1 AWS_LC_SYS_USE_SYSTEM=0 cargo build -q --release --locked --features python \
    && install -D target/release/libsightline_fanout.so /native/lib/python3.13/site-packages/sightline_fanout.abi3.so

FROM scratch AS native-operator
COPY LICENSE /share/doc/sightline/

FROM scratch AS native-api
COPY LICENSE /share/doc/sightline/

FROM scratch AS native-agent
COPY LICENSE /share/doc/sightline/
COPY --from=rust /native /

FROM native-${COMPONENT} AS native

# Third-party packages: a layer that changes with their pinned list alone.
FROM base AS dependencies
# Where packages come from, when not from the public index, and the authorities to trust on the way: a proxy's own
# bundle is mounted for the build. None of it stays in the image.
ARG PIP_INDEX_URL
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
RUN apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv
COPY hack/images/build-requirements.txt /tmp/
# pip lives in an environment of its own, so that the one that is shipped holds nothing but the product.
RUN python3 -m venv /tmp/pip \
    && /tmp/pip/bin/pip install -q --require-hashes --only-binary :all: -r /tmp/build-requirements.txt \
    && python3 -m venv --without-pip /opt/sightline
ARG COMPONENT
COPY requirements/${COMPONENT}.txt /tmp/requirements.txt
# Byte-code by content, not by time stamp: the same sources give the same files, and nothing is checked at start.
RUN /tmp/pip/bin/pip --python /opt/sightline/bin/python install -q \
        --require-hashes --only-binary :all: -r /tmp/requirements.txt \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sightline/lib

# Our own packages, in a tree that is laid over it.
FROM dependencies AS own
ARG COMPONENT
COPY --from=sources / /sources/
RUN PATH=/tmp/pip/bin:$PATH pip wheel -q --no-deps --no-index --no-build-isolation -w /tmp/wheels /sources/packages/* \
    && /tmp/pip/bin/pip --python /opt/sightline/bin/python install -q \
        --no-deps --no-index --prefix=/own /tmp/wheels/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /own -p /opt/sightline /own/lib \
    && printf '#!/bin/sh\nexec /opt/sightline/bin/sightline-%s "$@"\n' "${COMPONENT}" > /own/bin/entrypoint \
    && chmod 755 /own/bin/entrypoint \
    && mkdir -p /sources/share

FROM base
COPY --from=dependencies /opt/sightline /opt/sightline
COPY --from=own /own /opt/sightline
COPY --from=native / /opt/sightline
COPY --from=own /sources/share /usr/share/sightline
# The root file system may be read-only; what has to write gets a volume at /tmp.
ENV PATH=/opt/sightline/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["/opt/sightline/bin/entrypoint"]
