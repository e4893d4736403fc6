# The whole toolkit, to run recipes in. Build it from the repository's root:
#   docker build -f docker/builder.Dockerfile -t edgecompress .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE}
# On amd64 the default index gives torch with CUDA, gigabytes that nothing here uses; set this to
# PyTorch's index of CPU wheels (docker/README.md). pip reads it from the environment.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /opt/source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY edgecompress ./edgecompress
COPY models ./models
COPY calibration ./calibration
RUN python -m venv /opt/edgecompress \
    && /opt/edgecompress/bin/pip install --no-cache-dir \
        --constraint constraints.txt "/opt/source[build]" \
    && mkdir --mode=1777 /store
ENV PATH=/opt/edgecompress/bin:${PATH} \
    EDGECOMPRESS_STORE=/store \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1
# Recipes, data and runs are mounted here; --user makes the results the caller's own.
WORKDIR /data
VOLUME ["/store"]
USER 65532:65532
ENTRYPOINT ["edgecompress"]
CMD ["--help"]
