# The actors and their command line; NATS runs elsewhere (see compose.yaml).
FROM python:3.11-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

# The locked packages first: this layer changes only with the lock. Nothing is built with anything that is not locked.
COPY constraints/run.txt constraints/build.txt constraints/
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --require-hashes -r constraints/build.txt \
    && /opt/build/bin/python -m pip wheel --require-hashes --no-build-isolation --wheel-dir wheels -r constraints/run.txt

COPY pyproject.toml README.md LICENSE ./
COPY runtime/ runtime/
COPY actors/ actors/
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m venv --without-pip /opt/actorloom \
    && /opt/build/bin/python -m pip --python /opt/actorloom/bin/python install --no-index --no-deps wheels/*.whl \
    && /opt/actorloom/bin/python -m compileall -q /opt/actorloom/lib

FROM python:3.11-slim

LABEL org.opencontainers.image.title="actorloom" \
      org.opencontainers.image.description="Typed, durable, traced actors over NATS" \
      org.opencontainers.image.licenses="Apache-2.0"

# With a health port, the check below asks this very process, and not whoever answers on NATS.
ENV PATH=/opt/actorloom/bin:$PATH PYTHONUNBUFFERED=1 ACTORLOOM_HEALTH_PORT=8080
COPY --from=build /opt/actorloom /opt/actorloom

# A number above 10000 is no user of the host; no home, no shell, nothing to write to.
USER 10100:10100
WORKDIR /app

HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["actorloom", "health"]

# `docker run … run my_package`, `… query orders.get_order orderId=1`: the arguments are the command line's. SIGTERM drains.
ENTRYPOINT ["actorloom"]
CMD ["run", "actorloom_shop"]
