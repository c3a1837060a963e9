FROM python:3.13-slim

RUN useradd --system --create-home isola
WORKDIR /srv/isola
COPY requirements.lock pyproject.toml README.md ./
COPY app app
COPY strategies strategies
COPY migrations migrations
COPY graphql graphql
# The lock file holds versions for development too; as a constraint it pins only what the server needs.
RUN pip install --no-cache-dir --constraint requirements.lock --editable .

USER isola
ENV ISOLA_HOST=0.0.0.0 ISOLA_PRODUCTION=true
EXPOSE 8000
HEALTHCHECK CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=3)"
ENTRYPOINT ["isola"]
CMD ["serve"]
