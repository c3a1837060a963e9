FROM python:3.13-slim

RUN useradd --system --uid 10001 --create-home isola
WORKDIR /srv/isola
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY app app
COPY strategies strategies
COPY migrations migrations
COPY graphql graphql
COPY docs docs
COPY benchmarks/results/standard.jsonl benchmarks/results/
# The lock file holds versions for development too; as a constraint it pins only what the server needs. pip
# compiles what it installs: the root filesystem can be read-only.
RUN pip install --no-cache-dir --constraint requirements.lock ".[otel]"

# By its number: what runs images can see that it is not root.
USER 10001
ENV ISOLA_HOST=0.0.0.0 ISOLA_PRODUCTION=true PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# Of a server; a container that runs another command needs a check of its own, or none.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"ISOLA_PORT\", 8000)}/livez', timeout=3)"]
ENTRYPOINT ["isola"]
CMD ["serve"]
