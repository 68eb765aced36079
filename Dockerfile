# The image of gristmill: what scripts/assemble_image.sh makes, on nothing. amd64 and arm64:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg REVISION="$(git rev-parse HEAD)" --tag … .
#
# When and from where it was built is known to whoever builds: --label org.opencontainers.image.created="$(date -u +%FT%TZ)" and
# --label org.opencontainers.image.source=URL. Here the labels would be empty. No `# syntax` line: it makes BuildKit ask a registry.
#
# Each platform is built on itself (emulated where it is not the machine's own): ldd must be able to read the program.

ARG RUST_VERSION=1.95
FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /build

# Kernels of arm64 have pages of 4, 16 or 64 KiB; an allocator built for 64 runs on all of them. The machine is asked, since
# classic builders do not say what they build for.
RUN case "$(uname -m)" in aarch64 | arm64) echo 16 ;; *) echo 12 ;; esac > /page

# --- dependencies: this layer lasts until a manifest changes ---
# Empty sources stand in for the program; the second engine's dependencies alone take minutes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir -p src benchmarks/micro benchmarks/e2e \
    && touch src/lib.rs \
    && for file in src/main.rs benchmarks/micro/decode.rs benchmarks/e2e/s3_server.rs; do echo 'fn main() {}' > "$file"; done \
    && JEMALLOC_SYS_WITH_LG_PAGE="$(cat /page)" cargo build --locked --release --bin gristmill \
    && rm -rf src target/release/.fingerprint/gristmill-*

# --- the program ---
COPY src src
RUN JEMALLOC_SYS_WITH_LG_PAGE="$(cat /page)" cargo build --locked --release --bin gristmill \
    && cp target/release/gristmill /gristmill \
    # Names of functions stay for reports of defects; line numbers are most of the size.
    && strip --strip-debug /gristmill

# --- the root file system ---
COPY scripts/assemble_image.sh ./
RUN ./assemble_image.sh /gristmill /image

FROM scratch
COPY --from=build /image /

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gristmill" \
      org.opencontainers.image.description="Grinds raw OpenShift usage (Parquet in S3) into exact daily rows in PostgreSQL" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"

# Any other uid works as well, with group 0, as OpenShift gives it. A number, so that runAsNonRoot can be checked.
USER 65532:0
ENTRYPOINT ["/usr/bin/gristmill"]
CMD ["--help"]
