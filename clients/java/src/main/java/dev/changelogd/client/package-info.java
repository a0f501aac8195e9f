/**
 * A client of changelogd: entities are set, deleted, loaded and followed. {@link
 * dev.changelogd.client.ChangelogClient} is the entry point.
 *
 * <p>Calls block. The deadline and the cancellation of the caller's {@link io.grpc.Context} end them, and so does an
 * interrupt of the thread. Streams are pulled, so no buffer grows with the log.
 */
package dev.changelogd.client;
