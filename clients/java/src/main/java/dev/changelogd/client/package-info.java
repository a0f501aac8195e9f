/**
 * A client of changelogd: entities are set, deleted, loaded and watched. {@link
 * dev.changelogd.client.ChangelogClient} is the entry point.
 *
 * <p>Calls block. The deadline and the cancellation of the caller's {@link io.grpc.Context} end them, and so does an
 * interrupt of the thread. Streams are pulled, so no buffer grows with the log. A
 * {@link dev.changelogd.client.Watcher} collects the state of its workspace.
 */
package dev.changelogd.client;
