#   docker build -t changelogd .
#   docker run --rm --network host -v changelogd:/var/lib/changelogd changelogd
#
# In a container, too, the API listens on loopback only. To publish the port instead of sharing the host's network, say
# that plain text is intended: -p 50051:50051 -e CHANGELOGD_LISTEN=0.0.0.0:50051 -e CHANGELOGD_INSECURE_LISTEN=true
#
# It is built on the architecture that it is for: the release has a builder for each of them, and nothing is emulated or
# cross-compiled. BuildKit and buildah 1.28 can read this file, so it has no heredocs and no `COPY --link`.
# docs/releasing.md says how the digests of the base images are kept.

# This image has Perl, make and the C compiler, which the vendored OpenSSL and librdkafka need. It has the same Debian
# as the final image, so that glibc fits.
FROM docker.io/library/rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build

# Puts the list of packages into the binary, so that scanners find what is vulnerable.
RUN --mount=type=cache,id=changelogd-registry,target=/usr/local/cargo/registry,sharing=locked \
    cargo install --locked --version 0.7.7 --root /tools cargo-auditable
ENV PATH=/tools/bin:$PATH

# zlib would be linked from the image otherwise, and the final one has none.
ENV LIBZ_SYS_STATIC=1

WORKDIR /src
COPY . .

# The commit, which the program reports, and its time, which OpenSSL and the SBOM contain instead of the build's time.
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=315532800

# Two builds of one commit make the same bytes. So no path of cargo's home, which is another one in a test, may be in
# the binary. OpenSSL keeps the path of its build, which is always below /src.
#
# A file's time is the context's, so a cached target directory of another checkout may look newer than other sources:
# touch ours, build them always, and keep what the cache is for, the dependencies.
RUN --mount=type=cache,id=changelogd-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=changelogd-target,target=/src/target,sharing=locked \
    find build.rs proto src crates tools -type f -exec touch {} + \
    && export CHANGELOGD_COMMIT="$REVISION" SOURCE_DATE_EPOCH RUSTFLAGS="--remap-path-prefix=$CARGO_HOME=/cargo" \
    && cargo auditable build --locked --release --bin changelogd \
    && cargo run --locked --release -p changelogd-third-party -- target/release/changelogd /out/doc \
    && install -D -m 0755 target/release/changelogd /out/changelogd \
    && install -d -m 0770 /out/lib/changelogd

# Nothing may be needed that the final image does not have: glibc, libgcc and libstdc++.
RUN ldd /out/changelogd > /out/libraries \
    && there='linux-vdso|ld-linux[a-z0-9_-]*|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+' \
    && if grep -vE "($there)\.so" /out/libraries; \
       then echo 'changelogd links to the libraries above, which the final image does not have' >&2; exit 1; fi


# No shell and no package manager; CA roots are in it.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f

# The vendored OpenSSL looks for CA roots where it was built, and nothing is there. TLS to brokers needs this.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    CHANGELOGD_DATA_DIR=/var/lib/changelogd

COPY LICENSE /usr/share/doc/changelogd/LICENSE
# Licences of what is linked, and the SBOM.
COPY --from=build /out/doc /usr/share/doc/changelogd
COPY --from=build /out/changelogd /usr/local/bin/changelogd
# A new volume takes the owner and mode of the directory under it. Platforms that choose a user put it into group 0.
# The directory above it is copied, because builders differ in the mode of the one that COPY names.
COPY --from=build --chown=65532:0 /out/lib /var/lib

# A number, since Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
VOLUME /var/lib/changelogd
ENTRYPOINT ["/usr/local/bin/changelogd"]
CMD ["serve"]

# Last, because they differ from build to build. The release sets all of these arguments.
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1980-01-01T00:00:00Z
ARG SOURCE=https://changelogd.example
LABEL org.opencontainers.image.title="changelogd" \
      org.opencontainers.image.description="A gRPC sidecar that keeps workspaces in a log-compacted Kafka topic" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${SOURCE}" \
      org.opencontainers.image.documentation="${SOURCE}/tree/${REVISION}/docs" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"
