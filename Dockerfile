# The moorage service. Build it from the project's folder: docker build -t moorage .
#
# It handles SIGTERM itself and drains; run it with an init (`docker run --init`, `init: true` in compose) where it
# starts processes of its own (CONTAINER_RUNTIME=process), so that somebody reaps what those leave behind.
# For the Docker runtime mount the engine's socket and add its group: --group-add "$(stat -c %g /var/run/docker.sock)".
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/moorage
ENV PATH=/opt/moorage/bin:$PATH
WORKDIR /src
COPY requirements/build.txt requirements/run.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt -r requirements/run.txt
COPY pyproject.toml README.md ./
COPY consumer consumer
COPY schemas schemas
RUN pip install --no-deps --no-build-isolation . && pip uninstall --yes setuptools pip

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/moorage --create-home moorage
COPY --from=build /opt/moorage /opt/moorage
ENV PATH=/opt/moorage/bin:$PATH PYTHONUNBUFFERED=1
USER moorage
WORKDIR /var/lib/moorage
STOPSIGNAL SIGTERM
ENTRYPOINT ["moorage"]
CMD ["run"]
