# syntax=docker/dockerfile:1
#
#   docker build -t changelogd .
#   docker run --rm --network host -v changelogd:/var/lib/changelogd changelogd
#
# In a container, too, the API listens on loopback only. To publish the port instead of sharing the host's network, say
# that plain text is intended: -p 50051:50051 -e CHANGELOGD_LISTEN=0.0.0.0:50051 -e CHANGELOGD_INSECURE_LISTEN=true
#
# Not pinned yet: the two base images are named by tag, because no registry was at hand to read their digests from.
# A release has to pin them, as in FROM name:tag@sha256:.... `docker buildx imagetools inspect <image>` prints digests.

# This image has Perl, make and the C compiler, which the vendored OpenSSL and librdkafka need. It has the same Debian
# as the final image, so that glibc fits.
FROM rust:1.95-bookworm AS build

# zlib would be linked from the image otherwise, and the final one has none.
ENV LIBZ_SYS_STATIC=1

WORKDIR /src
COPY . .

ARG TARGETARCH
# A file's time is the context's, so a cached target directory of another checkout may look newer than other sources:
# touch ours, build them always, and keep what the cache is for, the dependencies.
RUN --mount=type=cache,id=changelogd-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=changelogd-target-${TARGETARCH},target=/src/target,sharing=locked \
    find build.rs proto src crates -type f -exec touch {} + \
    && cargo build --locked --release --bin changelogd \
    && install -D -m 0755 target/release/changelogd /out/changelogd \
    && install -d -m 0750 /out/data

# Nothing may be needed that the final image does not have: glibc, libgcc and libstdc++.
RUN ldd /out/changelogd > /out/libraries \
    && there='linux-vdso|ld-linux[a-z0-9_-]*|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+' \
    && if grep -vE "($there)\.so" /out/libraries; \
       then echo 'changelogd links to the libraries above, which the final image does not have' >&2; exit 1; fi


# No shell and no package manager; CA roots are in it.
FROM gcr.io/distroless/cc-debian12:nonroot

LABEL org.opencontainers.image.title="changelogd" \
      org.opencontainers.image.description="A gRPC sidecar that keeps workspaces in a log-compacted Kafka topic" \
      org.opencontainers.image.licenses="Apache-2.0"

# The vendored OpenSSL looks for CA roots where it was built, and nothing is there. TLS to brokers needs this.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    CHANGELOGD_DATA_DIR=/var/lib/changelogd

COPY LICENSE /usr/share/doc/changelogd/LICENSE
COPY --from=build /out/changelogd /usr/local/bin/changelogd
# A new volume takes the owner and mode of the directory under it.
COPY --from=build --chown=65532:65532 /out/data /var/lib/changelogd

# A number, since Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
VOLUME /var/lib/changelogd
ENTRYPOINT ["/usr/local/bin/changelogd"]
CMD ["serve"]
