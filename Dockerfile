# syntax=docker/dockerfile:1

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
# Without default features: the stand-ins for the outside world are not part of a release.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --no-default-features --bin growth-chat \
    && cp target/release/growth-chat /growth-chat

# pg_dump must be at least as new as the server it dumps (PostgreSQL 15–18), and Debian's own is 17:
# the client programs come from the image of the newest supported server.
FROM postgres:18-trixie AS postgres
RUN mkdir -p /client/lib /client/bin \
    && cp -L "/usr/lib/$(uname -m)-linux-gnu/libpq.so.5" /client/lib/ \
    && cp /usr/lib/postgresql/18/bin/pg_dump /usr/lib/postgresql/18/bin/psql /client/bin/

FROM debian:trixie-slim
# libpq5 brings the libraries that libpq itself needs; the newer libpq shadows it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
       ca-certificates libpq5 libreadline8t64 liblz4-1 libzstd1 tzdata zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=postgres /client/lib/ /usr/local/lib/
COPY --from=postgres /client/bin/ /usr/local/bin/
# A library that is missing fails the build, not the first backup.
RUN ldconfig && pg_dump --version && psql --version
COPY --from=build /growth-chat /usr/local/bin/growth-chat

RUN useradd --system --uid 10001 --no-create-home growth-chat
USER 10001
ENV PG_BIN_DIR=/usr/local/bin
EXPOSE 8080 9091
STOPSIGNAL SIGTERM
# The platform probes /health; a second probe in the image would only disagree with it.
HEALTHCHECK NONE
ENTRYPOINT ["growth-chat"]
CMD ["serve"]
