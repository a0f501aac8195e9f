package dev.changelogd.client;

import java.util.List;

/** What a {@link Watcher} delivers. */
public sealed interface WatchEvent {
    /** The whole state. It replaces everything that came before. */
    record Loaded(List<Entry> entries) implements WatchEvent {}

    /** A new value of an entity. */
    record Changed(Entry entry) implements WatchEvent {}

    /** An entity was deleted. */
    record Deleted(Key key) implements WatchEvent {}
}
