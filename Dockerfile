# One instance of the Sensor Hub per container: docker build -t sensor-hub . (docs/container.md says the rest)
# The base may be any Debian image with Python 3.11 or newer and its venv module.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# -- dependencies, from the lock alone: a changed source file does not install them again --
FROM ${BASE_IMAGE} AS dependencies
RUN python3 -m venv /opt/venv
COPY requirements.lock /tmp/
# Byte code that does not look at the time of its source: what carries files into a layer may round that.
RUN /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-compile \
        --require-hashes --only-binary :all: -r /tmp/requirements.lock \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib
COPY pyproject.toml /app/
COPY sensor_hub/__init__.py /app/sensor_hub/
# What is installed is a path to /app and the command; what installs is not needed after that.
RUN cd /app \
    && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation --no-index -e . \
    && /opt/venv/bin/python -m pip uninstall --quiet --yes setuptools pip

# -- sources with their byte code: on a read-only root every start would compile them anew --
FROM ${BASE_IMAGE} AS sources
COPY . /app
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

# -- what runs --
FROM ${BASE_IMAGE}
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && useradd --no-log-init --uid 1000 --no-create-home --home-dir /app --shell /usr/sbin/nologin \
        --groups dialout hub \
    && install -d -o hub -g hub /data
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=sources /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    IOT2MQTT_PATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER hub
EXPOSE 5001 5002 5003
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["sensor-hub", "health"]
CMD ["sensor-hub", "run"]
LABEL org.opencontainers.image.title="Sensor Hub" \
      org.opencontainers.image.description="From serial lines and HTTP endpoints to MQTT, for the IoT2MQTT platform" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
