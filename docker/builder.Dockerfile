# The whole toolkit, to run recipes in. Build it from the repository's root:
#   docker build -f docker/builder.Dockerfile -t edgecompress .
# The base needs python3 of version 3.11 with pip and venv, and libstdc++6; `make pin` adds the
# digest that a registry gives for it.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS install
ARG SOURCE_DATE_EPOCH=315532800
# pip reads these from its environment; the last stage, and so the image, knows nothing of them.
ARG PIP_INDEX_URL=""
ARG PIP_EXTRA_INDEX_URL=""
ARG PIP_FIND_LINKS=""
ARG PIP_NO_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONHASHSEED=0
# Wheels that pip is not to look for elsewhere: on amd64 torch's CPU build (docker/README.md).
COPY docker/wheels /wheels
COPY docker/tools.lock docker/source.lock docker/builder.lock /locks/
# What packages are built with is locked too: nothing is fetched for it without a hash.
RUN python3 -m venv /opt/tools \
    && python3 -m venv /opt/edgecompress \
    && /opt/tools/bin/pip install --require-hashes --no-deps --only-binary=:all: \
        --find-links /wheels --requirement /locks/tools.lock \
    && /opt/tools/bin/pip wheel --require-hashes --no-deps --no-build-isolation \
        --find-links /wheels --requirement /locks/source.lock --wheel-dir /own \
    && /opt/edgecompress/bin/pip install --require-hashes --no-deps --only-binary=:all: \
        --no-compile --find-links /wheels --requirement /locks/builder.lock
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY docker/runtime.Dockerfile docker/runtime.lock docker/runtime-image.lock ./docker/
COPY edgecompress ./edgecompress
COPY models ./models
COPY calibration ./calibration
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /own . \
    && /opt/edgecompress/bin/pip install --no-deps --no-compile --no-index /own/*.whl

FROM ${BASE}
COPY --from=install /opt/edgecompress /opt/edgecompress
ENV PATH=/opt/edgecompress/bin:${PATH} \
    EDGECOMPRESS_STORE=/store \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A volume takes over the rights of what lies here; every user may write in it, as in /tmp.
RUN ["python3", "-c", "import os; os.mkdir('/store'); os.chmod('/store', 0o1777)"]
# Recipes, data and runs are mounted here; --user makes the results the caller's own.
WORKDIR /data
VOLUME ["/store"]
USER 65532:65532
ENTRYPOINT ["edgecompress"]
CMD ["--help"]
